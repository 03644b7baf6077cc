// Data sources of the stats faceplate: functions that return the current state of this process. They run when a
// client asks (a scrape, a health check, an open page), never during a call.

import type { CallStats, StatsTable, MeshEvent, MeshStatus } from '../../core/rpc/mod.ts';
import type { IndicesOverview } from './index-overview.ts';
import type { MetricFamily } from './metric-family.ts';
import type { VersionSource } from './version-source.ts';

/** Call statistics of one pool, including calls in its queue. */
export interface PoolCallStats {
  readonly service: string;
  readonly version: string;
  /** Id of the pool, as in PoolStatus. */
  readonly pool: string;
  readonly stats: CallStats;
}

export interface StatsSources {
  /** Status of this process. */
  readonly status: () => MeshStatus;
  /** Status of the whole mesh. Absent if this process knows no other; `status` is then used. */
  readonly meshStatus?: () => Promise<MeshStatus>;
  /** State of all indices of the mesh. Absent if this process knows no other. */
  readonly indices?: () => Promise<IndicesOverview>;
  /** Names of the shards of `index@version`; undefined for an unknown one. */
  readonly shardNames?: (indexVersion: string) => Promise<readonly string[] | undefined>;
  /** The versions of services. Absent in a process that is no faceplate. */
  readonly versions?: VersionSource;
  /** Returns the events after a sequence number, oldest first; 0 for all that are kept. */
  readonly events: (afterSeq: number) => readonly MeshEvent[];
  /** Statistics of the calls that faceplates of this process accepted. */
  readonly callStats: StatsTable;
  readonly poolStats: () => Iterable<PoolCallStats>;
  /** Returns metrics of other parts of the process, such as the age of Consul watches. Their names must be unique. */
  readonly extra?: (() => Iterable<MetricFamily>) | undefined;
}
