import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { until } from '../../kit/tools/wait.ts';
import { systemClock } from '../../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import {
  EventLog,
  keysOf,
  type AssignmentRecord,
  type Deployment,
  type ShardsOrder,
} from '../../../services/mesh/mod.ts';
import { Orders } from '../../../services/resource-manager/mod.ts';

const KEYS = keysOf('test');
const MINE = `${KEYS.assignments}one`;

let consul: TestConsul;
let client: ConsulClient;
let dataDir: string;
let events: EventLog;
let applied: (readonly Deployment[])[];
let appliedShards: (readonly ShardsOrder[])[];
let drained: boolean[];
const opened: Orders[] = [];

beforeEach(async () => {
  consul = await startConsul('real');
  client = consulClient({ address: consul.address });
  dataDir = mkdtempSync(path.join(tmpdir(), 'katamari-orders-'));
  events = new EventLog('one');
  applied = [];
  appliedShards = [];
  drained = [];
});

afterEach(async () => {
  for (const orders of opened.splice(0)) await orders.close();
  await consul.close();
  rmSync(dataDir, { recursive: true, force: true });
});

async function follow(apply: (deployments: readonly Deployment[]) => void = () => undefined): Promise<Orders> {
  const orders = new Orders({
    client,
    mesh: 'test',
    name: 'one',
    dataDir,
    events,
    clock: systemClock,
    apply: (deployments) => {
      applied.push(deployments);
      apply(deployments);
    },
    applyShards: (shards) => appliedShards.push(shards),
    onDrained: (isDrained) => drained.push(isDrained),
  });
  opened.push(orders);
  await orders.start();
  return orders;
}

/** Ends the current follower, as when its process ends. */
async function end(): Promise<void> {
  for (const orders of opened.splice(0)) await orders.close();
}

const order = (term: number, leader: string, deployments: readonly Deployment[]): Promise<boolean> =>
  client.put(MINE, JSON.stringify({ term, leader, deployments } satisfies AssignmentRecord));

/** Takes the leader lock until its LockIndex is `term`, as masters do in turn. */
async function lead(term: number): Promise<void> {
  for (;;) {
    const entry = await client.get(KEYS.leader);
    if ((entry?.lockIndex ?? 0) >= term) return;
    if (entry !== undefined && entry.session !== '') await client.put(KEYS.leader, '{}', { release: entry.session });
    const session = await client.createSession({
      name: 'leader',
      ttlMs: 60_000,
      lockDelayMs: 0,
      behavior: 'release',
      checks: [],
    });
    await client.put(KEYS.leader, JSON.stringify({ name: `m${term}` }), { acquire: session });
  }
}

const versions = (): string[][] => applied.map((deployments) => deployments.map(({ version }) => version));
const told = (kind: string): string[] =>
  events
    .after(0)
    .filter((event) => event.kind === kind)
    .map(({ subject, text }) => `${subject}: ${text}`);

const [FIRST, SECOND, THIRD] = ['1.0.0', '2.0.0', '3.0.0'].map((version) => [workDeployment({ version })]) as [
  Deployment[],
  Deployment[],
  Deployment[],
];

describe('Orders', () => {
  test('obeys the assignment at its start and each new one exactly once', async () => {
    await lead(1);
    await order(1, 'm1', FIRST);
    // A neighbor whose name starts in the same way.
    await client.put(`${MINE}2`, JSON.stringify({ term: 1, leader: 'm1', deployments: THIRD }));
    const orders = await follow();
    expect(versions()).toEqual([['1.0.0']]);
    await order(1, 'm1', SECOND);
    await until('the second order', () => applied.length === 2);
    await lead(2);
    await order(2, 'm2', SECOND);
    await until('the term', () => orders.stats().leader === 'm2');
    await order(2, 'm2', []);
    await until('the order of nothing', () => applied.length === 3);
    expect(versions()).toEqual([['1.0.0'], ['2.0.0'], []]);
    expect(told('assigned').at(-1)).toBe('one: by m2 in term 2: nothing');
    expect(orders.term).toBe(2);
  });

  test('refuses an assignment of an older term, and says which', async () => {
    await lead(1);
    await order(1, 'm1', FIRST);
    const orders = await follow();
    await lead(2);
    await until('the new term', () => orders.term === 2);
    // The old leader was frozen and does not know about it.
    await order(1, 'm1', SECOND);
    await until('the refusal', () => orders.stats().refused === 1);
    expect(told('order_refused')[0]).toMatch(/^m1: its assignment has term 1, but term 2 has begun/);
    expect(versions()).toEqual([['1.0.0']]);
    await order(1_000_000_000, 'm1', SECOND);
    await until('the refusal of nonsense', () => orders.stats().refused === 2);
    await order(2, 'm2', THIRD);
    await until('the right order', () => applied.length === 2);
    await order(1, 'm1', FIRST);
    await until('another refusal', () => orders.stats().refused === 3);
    expect(versions()).toEqual([['1.0.0'], ['3.0.0']]);
  });

  test('keeps the last assignment when it vanishes, becomes invalid, or Consul comes back empty', async () => {
    await lead(5);
    await order(5, 'm5', FIRST);
    const orders = await follow();
    expect(orders.term).toBeGreaterThan(0);
    await until('the term', () => orders.term === 5);
    await client.put(MINE, '{"term": 6}');
    await until('the refusal', () => orders.stats().refused === 1);
    await client.delete(MINE);
    await consul.kill();
    await consul.start({ isEmpty: true });
    await until('another history', () => orders.stats().watches.every(({ resets }) => resets > 0));
    expect(versions()).toEqual([['1.0.0']]);
    // A leader of the new history starts counting over and is obeyed.
    await lead(1);
    await order(1, 'm1', SECOND);
    await until('the order of the new leader', () => applied.length === 2);
    await until('the new term', () => orders.term === 1);
    await lead(2);
    await until('its successor', () => orders.term === 2);
    await order(1, 'm1', THIRD);
    await until('the refusal', () => orders.stats().refused === 2);
  });

  test('keeps its shards when an assignment says nothing about them, also after a restart without Consul', async () => {
    const shards = [
      {
        indexVersion: 'wiki@1.0.0',
        manifest: 'a'.repeat(64),
        source: 'file:///srv/wiki',
        contentService: 'Words',
        contentRange: '',
        places: '0-3',
      },
    ];
    const record: AssignmentRecord = { term: 1, leader: 'x', deployments: [], shards };
    await client.put(MINE, JSON.stringify(record));
    await follow();
    expect(appliedShards).toEqual([shards]);
    await order(2, 'older', [workDeployment({ version: '2.0.0' })]);
    await until('the second order to be applied', () => applied.length === 2);
    expect(appliedShards.at(-1)).toEqual(shards);
    await end();
    const before = appliedShards.length;
    client = consulClient({ address: '127.0.0.1:9' });
    await follow();
    expect(appliedShards.slice(before)).toEqual([shards]);
    expect(applied.at(-1)?.map(({ version }) => version)).toEqual(['2.0.0']);
    await end();
    client = consulClient({ address: consul.address });
    await follow();
    await client.put(MINE, JSON.stringify({ ...record, term: 3, shards: [] }));
    await until('the shards to be given up', () => appliedShards.at(-1)?.length === 0);
  });

  test('starts from disk while Consul is away, and follows Consul when it is back', async () => {
    await lead(3);
    await order(3, 'm3', FIRST);
    await follow();
    await end();
    await consul.kill();
    const orders = await follow();
    expect(versions()).toEqual([['1.0.0'], ['1.0.0']]);
    expect(orders.term).toBe(3);
    await consul.start();
    await order(2, 'm2', SECOND);
    await until('the refusal', () => orders.stats().refused === 1);
    await order(3, 'm3', SECOND);
    await until('the order', () => applied.length === 3);
  });

  test('obeys a new history of terms also when it began while the manager was down', async () => {
    await lead(4);
    await order(4, 'm4', FIRST);
    await follow();
    await end();
    await client.delete(KEYS.leader);
    await lead(1);
    await order(1, 'm1', SECOND);
    const orders = await follow();
    await until('the order', () => applied.length === 3);
    expect(versions()).toEqual([['1.0.0'], ['1.0.0'], ['2.0.0']]);
    expect(orders.term).toBe(1);
  });

  test('sets a broken file aside, reports it, and waits for Consul', async () => {
    const file = path.join(dataDir, 'orders.json');
    writeFileSync(file, '{"mesh":"test"');
    await order(1, 'm1', FIRST);
    await follow();
    expect(versions()).toEqual([['1.0.0']]);
    expect(told('order_refused')[0]).toMatch(/is not used \(kept as .*orders\.json\.broken\)/);
    expect(readFileSync(`${file}.broken`, 'utf8')).toBe('{"mesh":"test"');
    await end();
    const saved = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...saved, manager: 'two' }));
    await follow();
    expect(told('order_refused')[1]).toMatch(/it is for manager two of mesh test/);
  });

  test('starts within a few seconds without any assignment', async () => {
    await consul.kill();
    const orders = await follow();
    expect([applied, orders.term, orders.stats().leader]).toEqual([[], 0, '']);
    await end();
    expect(existsSync(path.join(dataDir, 'orders.json'))).toBe(false);
  });

  test('reports when this manager is drained and undrained', async () => {
    await client.put(`${KEYS.drained}one`, '{"since":"now"}');
    await client.put(`${KEYS.drained}one-more`, '{"since":"now"}');
    await follow();
    await until('the drain', () => drained.length === 1);
    await client.delete(`${KEYS.drained}one`);
    await until('its end', () => drained.length === 2);
    expect(drained).toEqual([true, false]);
  });

  test('keeps chassis running through an empty Consul, and runs them again after a restart without Consul', async () => {
    await lead(1);
    await order(1, 'm1', [workDeployment({ count: 2 })]);
    const before = new ManagerBench();
    const after = new ManagerBench();
    try {
      await follow((deployments) => before.manager.setDeployments('order', deployments));
      await before.untilServing({ 'Work@1.0.0': 2 });
      const pids = before.alive();
      await consul.kill();
      await consul.start({ isEmpty: true });
      await until('the empty Consul to be seen', () => opened[0]?.stats().watches.every(({ resets }) => resets > 0));
      expect(before.alive()).toEqual(pids);
      await consul.kill();
      await end();
      await before.manager.drain();
      await follow((deployments) => after.manager.setDeployments('order', deployments));
      await after.untilServing({ 'Work@1.0.0': 2 });
    } finally {
      await before.end();
      await after.end();
    }
  }, 90_000);
});

describe('An order that cannot be carried out', () => {
  test('is refused with the reason, from Consul and from disk, and the next one is carried out', async () => {
    const bad = workDeployment({ version: '6.6.6' });
    const good = workDeployment({ version: '2.0.0' });
    const apply = (deployments: readonly Deployment[]): void => {
      if (deployments.some(({ version }) => version === '6.6.6')) throw new Error('no such command');
    };
    const refusals = (): string[] =>
      events
        .after(0)
        .filter(({ kind }) => kind === 'order_refused')
        .map(({ text }) => text);
    await order(1, 'm1', [bad]);
    const first = await follow(apply);
    await until('the refusal', () => refusals().length === 1);
    expect(refusals()).toEqual(['its assignment cannot be carried out: no such command']);
    expect(first.stats()).toMatchObject({ leader: 'm1', refused: 1 });
    await end();

    // It is replayed at the next start, which goes on too.
    const second = await follow(apply);
    await until('the refusal', () => refusals().length === 2);
    await order(2, 'm1', [good]);
    await until('the next order', () => applied.at(-1)?.[0]?.version === '2.0.0');
    expect(refusals().length).toBe(2);
    expect(second.stats()).toMatchObject({ term: 2, refused: 1 });
  });
});
