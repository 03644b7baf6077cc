// Pools as the mesh sees them: what each manager says of its own pool, put together where details and interface are
// equal. Pure; for the command and for the dashboard, which get one PoolStatus for each pool of each manager.

import type { PoolStatus, ResourceStatus, RestartReason } from './status.ts';

/** A resource with its manager: names of resources repeat on each machine. */
export interface PlacedResource extends ResourceStatus {
  readonly manager: string;
}

/**
 * One pool of the whole mesh. Counts and rates are sums; of times the median is weighted by calls, the others are the
 * worst.
 */
export interface MergedPool extends Omit<PoolStatus, 'manager' | 'resources'> {
  /** Those that have a part of it, by name. */
  readonly managers: readonly string[];
  readonly resources: readonly PlacedResource[];
}

/** In the order of service and version, whatever the order in which managers were asked. */
export function mergePools(pools: readonly PoolStatus[]): MergedPool[] {
  const groups: PoolStatus[][] = [];
  // A pool that has no interface yet (nothing of it has started) belongs to the one of its version that has.
  const known = pools.filter(({ interfaceId }) => interfaceId !== '').sort(byManager);
  const unknown = pools.filter(({ interfaceId }) => interfaceId === '').sort(byManager);
  for (const pool of [...known, ...unknown]) {
    const group = groups.find((one) => isSamePool(one[0] as PoolStatus, pool) && !hasManager(one, pool.manager));
    if (group === undefined) groups.push([pool]);
    else group.push(pool);
  }
  const ids = new Map<string, number>();
  return groups
    .sort(([a], [b]) => compare(idOf(a as PoolStatus), idOf(b as PoolStatus)))
    .map((group) => {
      const plain = idOf(group[0] as PoolStatus);
      const count = (ids.get(plain) ?? 0) + 1;
      ids.set(plain, count);
      return merge(count === 1 ? plain : `${plain}#${count}`, group);
    });
}

function merge(id: string, group: readonly PoolStatus[]): MergedPool {
  const { service, version, roles, tags, interfaceId } = group[0] as PoolStatus;
  const managers = group.map(({ manager }) => manager);
  const sum = (figure: (pool: PoolStatus) => number): number => group.reduce((total, pool) => total + figure(pool), 0);
  const notes = group.filter(({ note }) => note !== '');
  return {
    id,
    service,
    version,
    roles,
    tags,
    interfaceId,
    managers,
    wanted: sum(({ wanted }) => wanted),
    alive: sum(({ alive }) => alive),
    free: sum(({ free }) => free),
    queued: sum(({ queued }) => queued),
    queueMax: sum(({ queueMax }) => queueMax),
    // A share of the service's calls, so each manager knows the same one.
    weight: Math.max(...group.map(({ weight }) => weight)),
    calls: sum(({ calls }) => calls),
    errors: sum(({ errors }) => errors),
    ratePerS: sum(({ ratePerS }) => ratePerS),
    p50Ms: weighted(group),
    p99Ms: worst(group.map(({ p99Ms }) => p99Ms)),
    queueP99Ms: worst(group.map(({ queueP99Ms }) => queueP99Ms)),
    restartsByReason: sumOfReasons(group),
    resources: group.flatMap((pool) => pool.resources.map((resource) => ({ ...resource, manager: pool.manager }))),
    note:
      group.length === 1 ? (notes[0]?.note ?? '') : notes.map(({ manager, note }) => `${manager}: ${note}`).join('; '),
  };
}

function isSamePool(a: PoolStatus, b: PoolStatus): boolean {
  if (a.service !== b.service || a.version !== b.version) return false;
  if (b.interfaceId === '') return true;
  return a.interfaceId === b.interfaceId && isSameSet(a.roles, b.roles) && isSameSet(a.tags, b.tags);
}

/** Two pools of one manager are two, for a reason that does not show in a status. */
function hasManager(group: readonly PoolStatus[], manager: string): boolean {
  return group.some((pool) => pool.manager === manager);
}

/** No mean of medians is exact; between the smallest and the largest it is. */
function weighted(group: readonly PoolStatus[]): number | null {
  const known = group.flatMap(({ p50Ms, ratePerS }) => (p50Ms === null ? [] : [{ p50Ms, ratePerS }]));
  if (known.length === 0) return null;
  const total = known.reduce((sum, { ratePerS }) => sum + ratePerS, 0);
  if (total === 0) return Math.max(...known.map(({ p50Ms }) => p50Ms));
  return known.reduce((sum, { p50Ms, ratePerS }) => sum + p50Ms * ratePerS, 0) / total;
}

function worst(figures: readonly (number | null)[]): number | null {
  const known = figures.filter((figure) => figure !== null);
  return known.length === 0 ? null : Math.max(...known);
}

function sumOfReasons(group: readonly PoolStatus[]): Partial<Record<RestartReason, number>> {
  const sums: Partial<Record<RestartReason, number>> = {};
  for (const { restartsByReason } of group) {
    for (const [reason, count] of Object.entries(restartsByReason) as [RestartReason, number][])
      sums[reason] = (sums[reason] ?? 0) + count;
  }
  return sums;
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one) => b.includes(one));
}

function idOf({ service, version }: PoolStatus): string {
  return `${service}@${version}`;
}

function byManager(a: PoolStatus, b: PoolStatus): number {
  return compare(a.manager, b.manager);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
