// Merges the pool statuses of all resource managers into one per pool of the mesh: pools with equal details and equal
// interface are merged. Used by the CLI and the dashboard, which receive one PoolStatus per pool and manager.

import type { PoolStatus, ResourceStatus, RestartReason } from './status.ts';

/** A resource and its manager. Resource names are unique only within a manager. */
export interface PlacedResource extends ResourceStatus {
  readonly manager: string;
}

/**
 * One pool of the mesh. Counts and rates are sums. The median time is weighted by call rate; the other percentiles are
 * the highest of any manager.
 */
export interface MergedPool extends Omit<PoolStatus, 'manager' | 'resources'> {
  /** Names of the managers that run resources of the pool, sorted. */
  readonly managers: readonly string[];
  readonly resources: readonly PlacedResource[];
}

/** Returns the merged pools, sorted by service and version. */
export function mergePools(pools: readonly PoolStatus[]): MergedPool[] {
  const groups: PoolStatus[][] = [];
  // A pool without an interface has started no resource yet. It is merged into a pool of its version that has one.
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
    // The share of the service's calls that the version gets. Every manager reports the same value.
    weight: Math.max(...group.map(({ weight }) => weight)),
    calls: sum(({ calls }) => calls),
    errors: sum(({ errors }) => errors),
    ratePerS: sum(({ ratePerS }) => ratePerS),
    p50Ms: weighted(group),
    p99Ms: worst(group.map(({ p99Ms }) => p99Ms)),
    queueP99Ms: worst(group.map(({ queueP99Ms }) => queueP99Ms)),
    restartsByReason: sumOfReasons(group),
    suspects: group.flatMap(({ suspects = [] }) => suspects),
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

/** Two pools of one manager are never merged: they differ in something that a status does not show. */
function hasManager(group: readonly PoolStatus[], manager: string): boolean {
  return group.some((pool) => pool.manager === manager);
}

/** Approximates the common median by the mean of the medians, weighted by call rate. */
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
