// What all gathered calls of a process share.

import type { DeadlineWheel } from '../../core/link/mod.ts';
import type { Clock, HedgeBudget, RequestLatencies, RetryBudget } from '../../core/mod.ts';
import type { GatherCounts } from './gather-counts.ts';
import type { ReplicaWaits } from './replica-waits.ts';
import type { StatisticsCache } from './statistics-cache.ts';

export interface GatherTools {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  readonly retries: RetryBudget;
  readonly hedges: HedgeBudget;
  readonly latencies: RequestLatencies;
  readonly statistics: StatisticsCache;
  readonly replicaWaits: ReplicaWaits;
  readonly counts: GatherCounts;
}
