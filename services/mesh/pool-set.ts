// The pools of the mesh, computed from the records of its managers. A pure function: all processes that read the same
// records get the same pools. The order of roles, tags and keys in a record does not matter.

import type { ManagerRecord, PoolRecord } from './records.ts';

/** The part of a pool that one manager runs. */
export interface PoolPart {
  readonly manager: string;
  /** Live resources there. */
  readonly alive: number;
  /** The manager shuts down and takes no new calls. */
  readonly isDraining: boolean;
}

/** A pool: chassis with equal details and equal interface, on any managers. */
export interface PoolSetEntry {
  readonly service: string;
  readonly version: string;
  /** Sorted, without duplicates, like the tags. */
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  /** Keys are sorted. */
  readonly more: Readonly<Record<string, string>>;
  readonly interfaceId: string;
  readonly alive: number;
  /** Sorted by the name of the manager. */
  readonly parts: readonly PoolPart[];
}

/** The pools, sorted by service, version and the other details. */
export function poolSetOf(managers: ReadonlyMap<string, ManagerRecord>): PoolSetEntry[] {
  const found = new Map<string, { details: AggregateDetails; parts: Map<string, PoolPart> }>();
  for (const [manager, { pools, isDraining }] of managers) {
    for (const pool of pools) {
      const details = detailsOf(pool);
      const key = JSON.stringify(Object.values(details));
      const { parts } = found.get(key) ?? { parts: new Map<string, PoolPart>() };
      // Two pools of one manager whose details differ only in order are one pool.
      parts.set(manager, { manager, alive: (parts.get(manager)?.alive ?? 0) + pool.alive, isDraining });
      found.set(key, { details, parts });
    }
  }
  return [...found]
    .sort(([a], [b]) => compare(a, b))
    .map(([, { details, parts }]) => ({
      ...details,
      alive: [...parts.values()].reduce((sum, { alive }) => sum + alive, 0),
      parts: [...parts.values()].sort((a, b) => compare(a.manager, b.manager)),
    }));
}

type AggregateDetails = Omit<PoolSetEntry, 'alive' | 'parts'>;

function detailsOf({ service, version, roles, tags, more, interfaceId }: PoolRecord): AggregateDetails {
  return {
    service,
    version,
    roles: [...new Set(roles)].sort(compare),
    tags: [...new Set(tags)].sort(compare),
    more: Object.fromEntries(Object.entries(more).sort(([a], [b]) => compare(a, b))),
    interfaceId,
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
