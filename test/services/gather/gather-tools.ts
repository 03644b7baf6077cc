// A method that sums, and what its gathered calls share, for tests without a mesh.

import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { DeadlineWheel } from '../../../core/link/mod.ts';
import { RetryBudget } from '../../../core/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { GatherCounts } from '../../../services/gather/gather-counts.ts';
import { HedgeBudget } from '../../../services/gather/hedge-budget.ts';
import { RequestLatencies } from '../../../services/gather/latencies.ts';
import { ReplicaWaits } from '../../../services/gather/replica-waits.ts';
import type { GatherTools } from '../../../services/gather/gather-tools.ts';
import { StatisticsCache } from '../../../services/gather/statistics-cache.ts';
import type { ManualClock } from '../../kit/tools/manual-clock.ts';

const IDL = `service Words {
  i64 total(1: optional list<string> shards) (katamari.readonly = "true", katamari.gather = "sum")
}`;
export const WORDS = parseIdl({ main: 'words.thrift', files: { 'words.thrift': IDL } }).services.get(
  'Words',
) as Interface;
export const TOTAL = WORDS.methods.get('total') as Method;
/** The result of a shard. */
export const ONE: Buffer = encodeStruct(TOTAL.result, { success: 1n });

export function toolsOf(clock: ManualClock): GatherTools {
  return {
    clock,
    deadlines: new DeadlineWheel(clock),
    retries: new RetryBudget(clock),
    hedges: new HedgeBudget(clock),
    latencies: new RequestLatencies(),
    statistics: new StatisticsCache(),
    replicaWaits: new ReplicaWaits(clock),
    counts: new GatherCounts(),
  };
}
