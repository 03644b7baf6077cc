// The managers as holders of shards: their states and what is wrong with each, in words.
import { describe, expect, test } from 'vitest';
import { indexNodes, NODE_STATE, type IndexNodesInput } from '../../../services/master/index-nodes.ts';
import type { ReplicaFacts } from '../../../services/mesh/mod.ts';
import { holdingOf, indexOf, managerOf } from './index-records.ts';

function replica(shard: string, state: string, change: Partial<ReplicaFacts> = {}): ReplicaFacts {
  const name = `wiki@1.0.0/${shard}`;
  return { shard: name, state, bytes: 10, bytesDone: 10, entries: 1, why: '', tries: 0, nextTryInMs: 0, ...change };
}

function nodes(change: Partial<IndexNodesInput> = {}): ReturnType<typeof indexNodes> {
  const managers = change.managers ?? new Map([managerOf('m1')]);
  return indexNodes({
    managers,
    drained: new Set(),
    holdings: new Map(),
    orders: new Map(),
    records: [indexOf('1.0.0')[1]],
    replicas: new Map([...managers.keys()].map((name) => [name, []])),
    ...change,
  });
}

/** `m1 2: is drained` */
const told = (found: ReturnType<typeof indexNodes>): string[] =>
  found.map(({ manager, state, problems }) => `${manager} ${state}: ${problems.join(' | ')}`);

describe('indexNodes()', () => {
  test('counts the shards of a manager by their state, and the bytes that it has', () => {
    const own = [
      replica('a', 'serving'),
      replica('b', 'serving'),
      replica('c', 'opening'),
      replica('d', 'fetching', { bytesDone: 4 }),
      replica('e', 'backing_off', { bytesDone: 0, why: 'the source is gone', tries: 2 }),
      replica('f', 'leaving', { shard: 'news@1.0.0/f' }),
    ];
    const holdings = new Map([['m1', holdingOf({ freeBytes: 1_000 })]]);
    expect(nodes({ replicas: new Map([['m1', own]]), holdings })).toEqual([
      {
        manager: 'm1',
        machine: 'm1',
        state: NODE_STATE.up,
        serving: 2,
        fetching: 2,
        backingOff: 1,
        bytes: 44,
        freeBytes: 1_000,
        indices: ['wiki@1.0.0'],
        problems: ['wiki@1.0.0/e: the source is gone (2 tries)'],
      },
    ]);
  });

  test('says why a manager gets no shards', () => {
    const managers = new Map([
      managerOf('down', { pools: managerOf('x')[1].pools.map((pool) => ({ ...pool, alive: 0 })) }),
      managerOf('drained'),
      managerOf('leaving', { isDraining: true }),
      managerOf('other', { pools: [] }),
      managerOf('silent'),
      managerOf('well'),
    ]);
    const heldBy = (name: string): ReplicaFacts[] => (name === 'drained' ? [replica('a', 'serving')] : []);
    const answering = [...managers.keys()].filter((name) => name !== 'silent');
    const replicas = new Map(answering.map((name) => [name, heldBy(name)]));
    expect(told(nodes({ managers, drained: new Set(['drained']), replicas }))).toEqual([
      'down 2: has no living copy of a content service of the indices (Words@^1); see katamari status -v',
      'drained 3: is drained, so it gets no shards, and serves 1 shard until other managers do; katamari undrain drained takes it back',
      'leaving 4: shuts down',
      'other 2: has no content service of the indices (Words@^1), so it gets no shards; deploy one with perManager',
      'silent 5: does not answer over its link, so what it serves is unknown',
      'well 1: ',
    ]);
    // Without indices, no content service is missing.
    expect(told(nodes({ managers: new Map([managerOf('other', { pools: [] })]), records: [] }))).toEqual(['other 1: ']);
  });

  test('lists a manager that is away while its order has shards', () => {
    const [id, { manifest, source, contentService, contentRange }] = indexOf('1.0.0');
    const order = { indexVersion: id, manifest, source, contentService, contentRange, places: '0-2' };
    const orders = new Map([
      ['gone', { term: 1, leader: 'boss', deployments: [], shards: [order] }],
      ['idle', { term: 1, leader: 'boss', deployments: [], shards: [] }],
    ]);
    const found = nodes({ orders });
    expect(told(found)).toEqual([
      'gone 6: is away, and has 3 shards in its last order; start it, or leave it: other managers get them',
      'm1 1: ',
    ]);
    expect(found[0]).toMatchObject({ indices: ['wiki@1.0.0'], serving: 0 });
    expect(found[0]).not.toHaveProperty('freeBytes');
  });

  test('says that a disk is too small, and names a few of many shards that fail', () => {
    const own = Array.from({ length: 5 }, (_, n) =>
      replica(`s${n}`, 'backing_off', { bytes: 2_048, bytesDone: 0, why: 'the disk is full', tries: 1 }),
    );
    const holdings = new Map([['m1', holdingOf({ freeBytes: 1_024 })]]);
    expect(nodes({ replicas: new Map([['m1', own]]), holdings })[0]?.problems).toEqual([
      'has 1.0 KiB of disk left for shards, and 10.0 KiB are to be fetched',
      'wiki@1.0.0/s0: the disk is full (1 try)',
      'wiki@1.0.0/s1: the disk is full (1 try)',
      'wiki@1.0.0/s2: the disk is full (1 try)',
      '2 more replicas fail',
    ]);
    const none = new Map([['m1', holdingOf({ freeBytes: 0 })]]);
    expect(nodes({ holdings: none })[0]?.problems).toEqual(['has no disk left for shards']);
  });
});
