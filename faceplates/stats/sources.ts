// Where the stats faceplate gets its figures: functions that hand out what this process knows at that moment.
// They are called when somebody looks (a scrape, a health check, an open page), never on the path of a call.

import type { CallStats, StatsTable, MeshEvent, MeshStatus } from '../../core/rpc/mod.ts';
import type { MetricFamily } from './metric-family.ts';

/** The books of one pool: every call that was dispatched to it, queue included. */
export interface PoolCallStats {
  readonly service: string;
  readonly version: string;
  /** Id of the pool, as in PoolStatus. */
  readonly pool: string;
  readonly stats: CallStats;
}

export interface StatsSources {
  /** Of this process. */
  readonly status: () => MeshStatus;
  /** Of the whole mesh, where this process can tell; else what it knows of itself stands for it. */
  readonly meshStatus?: () => Promise<MeshStatus>;
  /** Events after that sequence number, oldest first; 0 for all that are still kept. */
  readonly events: (afterSeq: number) => readonly MeshEvent[];
  /** Calls as the faceplates of this process saw them. */
  readonly book: StatsTable;
  readonly poolStats: () => Iterable<PoolCallStats>;
  /** Figures of other rooms, for example the age of Consul watches. Names must not clash with the faceplate's own. */
  readonly extra?: (() => Iterable<MetricFamily>) | undefined;
}
