// What the planner of shards collects for the plan of the leader, and when it has it made again.

import { describe, expect, test } from 'vitest';
import { ProblemLog } from '../../../services/master/problem-log.ts';
import { ShardPlanner, type ShardView } from '../../../services/master/shard-planner.ts';
import { EventLog, type ManagerRecord, type ManifestRecord } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { holdingOf, indexOf, managerOf, MANIFEST, shown } from './index-records.ts';

const SHARDS: ManifestRecord = { shards: ['a', 'b', 'c', 'd'].map((name) => ({ name, bytes: 10, digest: 'd' })) };
const BOTH: ReadonlyMap<string, ManagerRecord> = new Map([managerOf('m1'), managerOf('m2')]);
const { signal } = new AbortController();

interface Made {
  readonly planner: ShardPlanner;
  readonly clock: ManualClock;
  /** Manifests in Consul. */
  readonly manifests: Map<string, ManifestRecord>;
  /** Hashes whose manifests were to be kept, of each plan. */
  readonly kept: string[][];
  readonly told: () => string[];
  due: number;
}

function made(): Made {
  const clock = new ManualClock();
  const events = new EventLog('master');
  const manifests = new Map([[MANIFEST, SHARDS]]);
  const kept: string[][] = [];
  const planner = new ShardPlanner({
    manifests: {
      get: (sha256) => {
        const found = manifests.get(sha256);
        return found === undefined ? Promise.reject(new Error('there is none')) : Promise.resolve(found);
      },
      keepOnly: (sha256s) => Promise.resolve(void kept.push([...sha256s])),
    },
    problems: new ProblemLog(events),
    clock,
    onDue: () => void it.due++,
  });
  const told = (): string[] => events.after(0).map(({ kind, subject, text }) => `${kind} ${subject}: ${text}`);
  const it: Made = { planner, clock, manifests, kept, told, due: 0 };
  return it;
}

function viewOf(change: Partial<ShardView> = {}): ShardView {
  const order = { modifyIndex: 1, record: { term: 1, leader: 'a', deployments: [], shards: [] } };
  return {
    indices: new Map([indexOf('1.0.0')]),
    unreadableIndices: new Set(),
    drained: new Set(),
    orders: new Map([...BOTH.keys()].map((name) => [name, order])),
    holdings: new Map(),
    ...change,
  };
}

describe('ShardPlanner', () => {
  test('plan() without indices and without shards in orders reads nothing', async () => {
    const { planner, kept } = made();
    const plan = await planner.plan(viewOf({ indices: new Map() }), BOTH, signal);
    expect([plan.orders.size, plan.served.size, kept]).toEqual([0, 0, []]);
  });

  test('plan() places the shards, and keeps the manifests that are in use', async () => {
    const { planner, kept } = made();
    const { orders, served } = await planner.plan(viewOf(), BOTH, signal);
    expect(shown(orders)).toEqual({ m1: ['wiki@1.0.0 0,2'], m2: ['wiki@1.0.0 1,3'] });
    expect([...served]).toEqual([['wiki@1.0.0', 0]]);
    expect(kept).toEqual([[MANIFEST]]);
  });

  test('plan() uses what a manager held before its record went, as long as the manager counts as present', async () => {
    const { planner } = made();
    const holdings = new Map([['m1', holdingOf({ serving: { 'wiki@1.0.0': '0-3' } })]]);
    const served = async (view: ShardView, present = BOTH): Promise<number | undefined> =>
      (await planner.plan(view, present, signal)).served.get('wiki@1.0.0');
    expect(await served(viewOf({ holdings }))).toBe(1);
    expect(await served(viewOf())).toBe(1);
    expect(await served(viewOf(), new Map([managerOf('m2')]))).toBe(0);
    expect(await served(viewOf())).toBe(0);
  });

  test('a manifest that cannot be read is reported once and read again after a pause; its shards stay', async () => {
    const { planner, clock, manifests, told, ...rest } = made();
    expect(rest.due).toBe(0);
    manifests.clear();
    const { orders } = await planner.plan(viewOf(), BOTH, signal);
    expect(shown(orders)).toEqual({ m1: [], m2: [] });
    await planner.plan(viewOf(), BOTH, signal);
    expect(told()).toEqual(['order_refused wiki@1.0.0: there is none']);
    expect(clock.waiting).toBe(1);
  });

  test('says when the plan is due: at the earliest moment, once, and not after close()', async () => {
    const it = made();
    it.manifests.clear();
    await it.planner.plan(viewOf(), BOTH, signal);
    await it.planner.plan(viewOf(), BOTH, signal);
    it.clock.advance(1_999);
    expect(it.due).toBe(0);
    it.clock.advance(1);
    expect([it.due, it.clock.waiting]).toEqual([1, 0]);
    await it.planner.plan(viewOf(), BOTH, signal);
    const late = it.planner.plan(viewOf(), BOTH, signal);
    it.planner.close();
    await late;
    it.clock.advance(60_000);
    expect([it.due, it.clock.waiting]).toEqual([1, 0]);
  });

  test('a version that lacks replicas is reported once, and again after it was removed and added', async () => {
    const { planner, told } = made();
    const drained = new Set(BOTH.keys());
    await planner.plan(viewOf({ drained }), BOTH, signal);
    await planner.plan(viewOf({ drained }), BOTH, signal);
    const first = told();
    expect(first).toEqual([expect.stringMatching(/^index_incomplete wiki@1\.0\.0: ./)]);
    await planner.plan(viewOf({ drained, indices: new Map() }), BOTH, signal);
    await planner.plan(viewOf({ drained }), BOTH, signal);
    expect(told()).toEqual([...first, ...first]);
  });
});

describe('ProblemLog', () => {
  test('report() adds an event for each new text, and none for a problem that ends', () => {
    const events = new EventLog('master');
    const problems = new ProblemLog(events);
    for (const text of ['one', 'one', 'two', undefined, undefined, 'two']) problems.report('assigned', 'm1', text);
    expect(events.after(0).map(({ text }) => text)).toEqual(['one', 'two', 'two']);
  });

  test('keepOnly() forgets other subjects of that kind alone', () => {
    const events = new EventLog('master');
    const problems = new ProblemLog(events);
    const report = (): void => {
      problems.report('index_incomplete', 'a', 'text');
      problems.report('index_incomplete', 'b', 'text');
      problems.report('order_refused', 'b', 'text');
    };
    report();
    problems.keepOnly('index_incomplete', new Set(['a']));
    report();
    const told = events.after(0).map(({ kind, subject }) => `${kind} ${subject}`);
    expect(told).toEqual(['index_incomplete a', 'index_incomplete b', 'order_refused b', 'index_incomplete b']);
  });
});
