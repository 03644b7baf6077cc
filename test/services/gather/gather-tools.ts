// A method that sums, and what its gathered calls share, for tests without a mesh.

import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { DeadlineWheel } from '../../../core/link/mod.ts';
import { HedgeBudget, RequestLatencies, RetryBudget } from '../../../core/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { GatherCounts } from '../../../services/gather/gather-counts.ts';
import { ReplicaWaits } from '../../../services/gather/replica-waits.ts';
import type { GatherTools } from '../../../services/gather/gather-tools.ts';
import { StatisticsCache } from '../../../services/gather/statistics-cache.ts';
import type { Offer } from '../../../services/mesh/mod.ts';
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
    hedges: new HedgeBudget(clock, 1),
    latencies: new RequestLatencies(),
    statistics: new StatisticsCache(),
    replicaWaits: new ReplicaWaits(clock),
    counts: new GatherCounts(),
  };
}

/** The pool of the content service on a manager, with four free copies. */
export function wordsOffer(manager: string, send: Offer['send'] = () => undefined): Offer {
  const details = { service: 'Words', version: '1.0.0', roles: [], tags: [], more: {} };
  const copies = { isReachable: true, queued: 0, alive: 4, free: 4 };
  return { id: manager, manager, details, interface: WORDS, ...copies, send };
}
