// What the leader orders managers to hold, from the records in Consul.
import { describe, expect, test } from 'vitest';
import { IndexLeader, type IndexState } from '../../../services/master/index-leader.ts';
import type { HoldingsRecord, ShardsOrder } from '../../../services/mesh/mod.ts';
import { holdingOf, indexOf, managerOf, MANIFEST, shown } from './index-records.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

function stateOf(change: Partial<IndexState> = {}): IndexState {
  const shards = ['a', 'b', 'c', 'd'].map((name) => ({ name, bytes: 10, digest: 'd' }));
  const managers = change.managers ?? new Map([managerOf('m1'), managerOf('m2')]);
  return {
    indices: new Map([indexOf('1.0.0')]),
    unreadable: new Set(),
    manifests: new Map([[MANIFEST, { shards }]]),
    drained: new Set(),
    holdings: new Map(),
    ...change,
    managers,
    ordered: new Map([...[...managers.keys()].map((name) => [name, []] as const), ...(change.ordered ?? [])]),
  };
}

describe('The leader', () => {
  test('orders each shard of each version, with what the manager needs to fetch it', () => {
    const { orders, nextAtMs } = new IndexLeader(new ManualClock()).plan(
      stateOf({ indices: new Map([indexOf('2.0.0'), indexOf('1.0.0', { replicas: 2 })]) }),
    );
    expect(orders.get('m1')?.[0]).toEqual({
      indexVersion: 'wiki@1.0.0',
      manifest: MANIFEST,
      source: 'file:///srv/wiki',
      contentService: 'Words',
      contentRange: '^1',
      places: '0-3',
    });
    expect(shown(orders)).toEqual({
      m1: ['wiki@1.0.0 0-3', 'wiki@2.0.0 0,2'],
      m2: ['wiki@1.0.0 0-3', 'wiki@2.0.0 1,3'],
    });
    expect(nextAtMs).toBe(Number.POSITIVE_INFINITY);
  });

  test('gives up the shards of a version that is not wanted any more', () => {
    const ordered = new Map([['m1', [{ ...orderOf('wiki@0.9.0'), places: '0-3' }]]]);
    const { orders } = new IndexLeader(new ManualClock()).plan(stateOf({ ordered, indices: new Map() }));
    expect(shown(orders)).toEqual({ m1: [], m2: [] });
  });

  test('leaves the shards of a version alone whose record or manifest cannot be read', () => {
    const ordered = new Map([['m1', [orderOf('wiki@0.8.0'), orderOf('wiki@0.9.0')]]]);
    const state = stateOf({
      ordered,
      indices: new Map([indexOf('0.9.0', { manifest: 'b'.repeat(64) })]),
      unreadable: new Set(['wiki@0.8.0']),
    });
    expect(shown(new IndexLeader(new ManualClock()).plan(state).orders)).toEqual({
      m1: ['wiki@0.8.0 0-3', 'wiki@0.9.0 0-3'],
      m2: [],
    });
  });

  test('counts only copies that live, managers that stay, and free space', () => {
    const managers = new Map([
      managerOf('dead', { pools: [] }),
      managerOf('drained'),
      managerOf('full'),
      managerOf('good'),
      managerOf('leaving', { isDraining: true }),
    ]);
    const { orders } = new IndexLeader(new ManualClock()).plan(
      stateOf({ managers, drained: new Set(['drained']), holdings: new Map([['full', holdingOf({ freeBytes: 5 })]]) }),
    );
    expect(shown(orders)).toEqual({ dead: [], drained: [], full: [], good: ['wiki@1.0.0 0-3'] });
  });

  test('leaves its order to a manager that shuts down, so that it finds its shards when it is back', () => {
    const leader = new IndexLeader(new ManualClock());
    const served = holdingOf({ serving: { 'wiki@1.0.0': '0-3' }, onDisk: { 'wiki@1.0.0': '0-3' } });
    const ordered = new Map([['m1', [orderOf('wiki@1.0.0')]]]);
    const leaving = new Map([managerOf('m1', { isDraining: true }), managerOf('m2')]);
    const holdings = new Map([['m1', served]]);
    expect(shown(leader.plan(stateOf({ managers: leaving, ordered, holdings })).orders)).toEqual({
      m2: ['wiki@1.0.0 0-3'],
    });
    // An operator who drains it wants its shards elsewhere.
    const drained = stateOf({ managers: leaving, ordered, holdings, drained: new Set(['m1']) });
    expect(shown(leader.plan(drained).orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: ['wiki@1.0.0 0-3'] });
    const both = new Map([...ordered, ['m2', [orderOf('wiki@1.0.0')]]]);
    const back = holdingOf({ onDisk: { 'wiki@1.0.0': '0-3' } });
    const returned = stateOf({
      ordered: both,
      holdings: new Map([
        ['m1', back],
        ['m2', served],
      ]),
    });
    expect(shown(leader.plan(returned).orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: ['wiki@1.0.0 0-3'] });
  });

  test('places a shard elsewhere after three failures, and tries again later, with growing pauses', () => {
    const clock = new ManualClock();
    const leader = new IndexLeader(clock);
    const failing = (tries: number): IndexState =>
      stateOf({
        ordered: new Map([['m1', [orderOf('wiki@1.0.0')]]]),
        holdings: new Map([
          [
            'm1',
            holdingOf({
              serving: { 'wiki@1.0.0': '0-2' },
              failed: [{ indexVersion: 'wiki@1.0.0', place: 3, tries, why: 'damaged' }],
            }),
          ],
        ]),
      });
    expect(shown(leader.plan(failing(2)).orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: [] });
    const plan = leader.plan(failing(3));
    expect(shown(plan.orders)).toEqual({ m1: ['wiki@1.0.0 0-2'], m2: ['wiki@1.0.0 3'] });
    expect(plan.nextAtMs - clock.nowMs()).toBe(30_000);
    clock.advance(30_001);
    // Failing again, it is avoided for twice as long.
    expect(leader.plan(failing(4)).nextAtMs - clock.nowMs()).toBe(60_000);
  });

  test('lets a shard that can never be opened be tried at most 10 times in 5 minutes by each manager', () => {
    const clock = new ManualClock();
    const leader = new IndexLeader(clock);
    const names = ['m1', 'm2'];
    /** Replicas that fail, by manager: they try again after growing pauses, as managers do. */
    const failing = new Map<string, { tries: number; nextAtMs: number }>();
    const tries = { m1: 0, m2: 0 };
    let ordered = new Map<string, readonly ShardsOrder[]>(names.map((name) => [name, []]));
    for (const startMs = clock.nowMs(); clock.nowMs() - startMs < 300_000; clock.advance(500)) {
      const holdings = names.map((name): [string, HoldingsRecord] => {
        const found = failing.get(name)?.tries ?? 0;
        const failed = { indexVersion: 'wiki@1.0.0', place: 0, tries: found, why: 'damaged' };
        return [name, holdingOf({ serving: { 'wiki@1.0.0': '1-3' }, failed: found === 0 ? [] : [failed] })];
      });
      const indices = new Map([indexOf('1.0.0', { replicas: 2 })]);
      ordered = new Map([
        ...ordered,
        ...leader.plan(stateOf({ indices, ordered, holdings: new Map(holdings) })).orders,
      ]);
      for (const name of names) {
        const isOrdered = ordered.get(name)?.some(({ places }) => places.startsWith('0')) === true;
        if (!isOrdered) failing.delete(name);
        else if ((failing.get(name)?.nextAtMs ?? 0) <= clock.nowMs()) {
          const before = failing.get(name)?.tries ?? 0;
          failing.set(name, { tries: before + 1, nextAtMs: clock.nowMs() + 1_000 * 2 ** before });
          tries[name as 'm1' | 'm2']++;
        }
      }
    }
    expect(Math.max(tries.m1, tries.m2)).toBeLessThanOrEqual(10);
    expect(Math.min(tries.m1, tries.m2)).toBeGreaterThan(3);
  });

  test('lets a manager keep its shards while its copies come back, and for a minute at most', () => {
    const clock = new ManualClock();
    const leader = new IndexLeader(clock);
    const ordered = new Map([['m1', [orderOf('wiki@1.0.0')]]]);
    const whole = stateOf({ ordered, holdings: new Map([['m1', holdingOf({ serving: { 'wiki@1.0.0': '0-3' } })]]) });
    const none = { pools: [] };
    const crashed = stateOf({ ordered, managers: new Map([managerOf('m1', none), managerOf('m2')]) });
    expect(leader.plan(whole).nextAtMs).toBe(Number.POSITIVE_INFINITY);
    clock.advance(100_000);
    leader.plan(whole);
    clock.advance(1_000);
    const plan = leader.plan(crashed);
    expect(shown(plan.orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: [] });
    expect(plan.nextAtMs - clock.nowMs()).toBe(59_000);
    clock.advance(59_001);
    expect(shown(leader.plan(crashed).orders)).toEqual({ m1: [], m2: ['wiki@1.0.0 0-3'] });
    // A manager that has just come back has had no copy yet.
    leader.plan(stateOf({ ordered, managers: new Map([managerOf('m2')]) }));
    expect(shown(leader.plan(crashed).orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: [] });
  });

  test('plans nothing while a manager has not told what it holds, and keeps what it tells', () => {
    const clock = new ManualClock();
    const leader = new IndexLeader(clock);
    const managers = new Map([managerOf('m1'), managerOf('m2')]);
    const unknown = { ...stateOf({ managers }), ordered: new Map([['m2', []]]) };
    const plan = leader.plan(unknown);
    expect(plan.orders.size).toBe(0);
    expect(plan.nextAtMs - clock.nowMs()).toBe(3_000);
    const onDisk = { 'wiki@1.0.0': '0-3', 'wiki@0.1.0': '0' };
    const told = { ...unknown, holdings: new Map([['m1', holdingOf({ onDisk })]]) };
    expect(shown(leader.plan(told).orders)).toEqual({ m1: ['wiki@1.0.0 0-3'], m2: [] });
    // One that tells nothing holds nothing.
    clock.advance(3_001);
    expect(shown(leader.plan(unknown).orders)).toEqual({ m1: ['wiki@1.0.0 0,2'], m2: ['wiki@1.0.0 1,3'] });
  });
});

function orderOf(indexVersion: string): ShardsOrder {
  return {
    indexVersion,
    manifest: MANIFEST,
    source: 'file:///srv/wiki',
    contentService: 'Words',
    contentRange: '^1',
    places: '0-3',
  };
}
