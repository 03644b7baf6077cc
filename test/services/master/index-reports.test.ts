// What operators read of an index while one of its managers is silent.
import { describe, expect, test } from 'vitest';
import type { IndexActions } from '../../../services/master/index-actions.ts';
import { readIndices } from '../../../services/master/index-reports.ts';
import type { ManifestRecord, ReplicaFacts, ShardsOrder } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { holdingOf, indexOf, managerOf, MANIFEST } from './index-records.ts';

const [ID, RECORD] = indexOf('1.0.0', { shards: 2, replicas: 2, readyAtMs: 1, promotedAtMs: 1 });
const SHARDS: ManifestRecord = { shards: ['a', 'b'].map((name) => ({ name, bytes: 10, digest: name })) };
const SERVED: readonly ReplicaFacts[] = SHARDS.shards.map(({ name }) => {
  const facts = { bytes: 10, bytesDone: 10, entries: 1, why: '', tries: 0, nextTryInMs: 0 };
  return { shard: `${ID}/${name}`, state: 'serving', ...facts };
});

/** A mesh of two managers that serve both shards, of which some answer. */
function meshOf(...answering: readonly string[]): IndexActions {
  const managers = new Map([managerOf('m1'), managerOf('m2')]);
  const holdings = [...managers.keys()].map((name) => [name, holdingOf({ serving: { [ID]: '0-1' } })] as const);
  const orders = [...managers.keys()].map((name) => {
    const { source, contentService, contentRange } = RECORD;
    const order: ShardsOrder = {
      indexVersion: ID,
      places: '0-1',
      manifest: MANIFEST,
      source,
      contentService,
      contentRange,
    };
    return [name, { shards: [order] }] as const;
  });
  return {
    store: { list: () => Promise.resolve([RECORD]) },
    manifest: () => Promise.resolve(SHARDS),
    managers: () => managers,
    replicas: () => Promise.resolve(new Map(answering.map((name) => [name, SERVED]))),
    readHoldings: () =>
      Promise.resolve({ managers, drained: new Set(), holdings: new Map(holdings), orders: new Map(orders) }),
    shareOf: () => 1,
    clock: new ManualClock(),
  } as unknown as IndexActions;
}

describe('The state of an index', () => {
  test('names the managers that should serve it and do not answer', async () => {
    const of = async (...answering: readonly string[]): Promise<readonly string[] | undefined> =>
      (await readIndices(meshOf(...answering), [RECORD]))[0]?.conditions;
    expect(await of('m1', 'm2')).toEqual([]);
    expect(await of('m1')).toEqual([
      'm2 does not answer, so what it serves is unknown; see whether it runs and can be reached',
    ]);
  });
});
