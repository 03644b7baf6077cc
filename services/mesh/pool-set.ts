// The pools of the mesh, from what its managers have entered in Consul. A pure function, so that everyone who reads the same entries has the
// identical set, whatever the order in which anything was written.

import type { ManagerRecord, PoolRecord } from './records.ts';

/** A pool of one manager. */
export interface PoolPart {
  readonly manager: string;
  /** Resources that live there. */
  readonly alive: number;
  /** The manager takes no new calls for it. */
  readonly isDraining: boolean;
}

/** Chassis with equal details and equal interface, on any manager. */
export interface PoolSetEntry {
  readonly service: string;
  readonly version: string;
  /** Sorted, each once; the tags too. */
  readonly roles: readonly string[];
  readonly tags: readonly string[];
  /** By sorted keys. */
  readonly more: Readonly<Record<string, string>>;
  readonly interfaceId: string;
  readonly alive: number;
  /** By name. */
  readonly parts: readonly PoolPart[];
}

/** Sorted by service, version and the other details, as text. */
export function poolSetOf(managers: ReadonlyMap<string, ManagerRecord>): PoolSetEntry[] {
  const found = new Map<string, { details: AggregateDetails; parts: Map<string, PoolPart> }>();
  for (const [manager, { pools, isDraining }] of managers) {
    for (const pool of pools) {
      const details = detailsOf(pool);
      const key = JSON.stringify(Object.values(details));
      const { parts } = found.get(key) ?? { parts: new Map<string, PoolPart>() };
      // Two of one manager that differ only in how something is written are one.
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
