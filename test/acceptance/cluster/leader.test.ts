// The leader is killed, stopped and frozen while 32 clients call without pause. A new one takes over in time, and no
// call fails. A thawed leader makes no assignment in its old term, and a stale assignment is refused.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import {
  callsLine,
  copiesOf,
  eventsOf,
  leadOf,
  orderedAfter,
  ordersOf,
  seconds,
  untilSpread,
  type Lead,
} from '../../kit/cluster/view.ts';
import { until } from '../../kit/tools/wait.ts';

const TIMEOUT_MS = 10_000;
let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({ settings: { timeout: '10s' }, wanted: [tally({ count: 6 })] });
  await untilEach(2);
  await untilLed('master-1');
  callers = new ClusterCallers({ doors: cluster.doors, clients: 32, timeoutMs: TIMEOUT_MS, seed: 101 });
}, 120_000);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
});

test('A killed leader has a successor that takes over, and no call fails', async () => {
  const { process, term } = await leader();
  const since = performance.now();
  const killed = process.kill();
  const tookMs = await untilScaled(9, term, since);
  await killed;
  await untilEach(3);
  console.log(`leader killed: a new one has acted after ${seconds(tookMs)} (promised 3), ${failures()}`);
  expect(tookMs).toBeLessThan(3 * 3_000);
  expect(callers.failures(cluster.ledger())).toEqual([]);
});

test('A stopped leader hands over at once, and no call fails', async () => {
  await cluster.process('master-1').restart();
  // The first master in rank leads again once it has been up for a while.
  const { process, term } = await untilLed('master-1');
  const since = performance.now();
  process.signal('SIGTERM');
  const tookMs = await untilScaled(6, term, since);
  expect(await process.ended).toEqual({ code: 0, signal: null });
  await untilEach(2);
  console.log(`leader stopped: a new one has acted after ${seconds(tookMs)} (promised 1), ${failures()}`);
  expect(tookMs).toBeLessThan(3 * 1_000);
  expect(callers.failures(cluster.ledger())).toEqual([]);
});

test('A frozen leader does nothing in its old term, and a stale assignment is refused', async () => {
  await cluster.process('master-1').restart();
  const { process, term } = await untilLed('master-1');
  process.signal('SIGSTOP');
  const frozenAt = performance.now();
  // What it would write if it did not know that it was deposed.
  const tookMs = await untilScaled(9, term, frozenAt, FROZEN_MS);
  await untilEach(3);
  const [refusedBefore, orderedBefore] = [await refusals(), await ordered(term)];
  process.signal('SIGCONT');
  const frozenMs = performance.now() - frozenAt;
  const again = await untilLed('master-1', ({ term: now }) => now > term);
  await until('the orders of its new term', async () => (await orderedAfter(cluster, again.term - 1)) === 9);
  // Managers report every assignment that changed something: none is of the old term.
  expect([await refusals(), await ordered(term)]).toEqual([refusedBefore, orderedBefore]);

  await giveStaleOrder('manager-1', { name: 'master-1', term });
  const [refused] = await until('the manager to refuse', async () => {
    const found = await eventsOf(cluster.process('manager-1'), 'order_refused');
    return found.length > refusedBefore.length ? found.slice(-1) : undefined;
  });
  expect(refused).toMatchObject({
    subject: 'master-1',
    text: expect.stringContaining(`its assignment has term ${term},`),
  });
  await until('the leader to put it right', async () => (await orderedAfter(cluster, again.term - 1)) === 9);
  expect(await copiesOf(cluster)).toEqual({ 'manager-1': 3, 'manager-2': 3, 'manager-3': 3 });
  const figures = `frozen for ${seconds(frozenMs)}, a new one had acted after ${seconds(tookMs)}`;
  console.log(`leader ${figures}; stale order refused, ${failures()}`);
  expect(callers.failures(cluster.ledger())).toEqual([]);
}, 120_000);

test('All calls were answered, and no call that must not ran twice', async () => {
  await callers.stop();
  expect(callers.failures(cluster.ledger())).toEqual([]);
  expect(checkLedger(cluster.ledger(), callers)).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
});

/** Requests this many copies. Returns how long after `sinceMs` a leader of a later term has assigned them. */
async function untilScaled(count: number, term: number, sinceMs: number, withinMs = 30_000): Promise<number> {
  await cluster.deploy(tally({ count }));
  await until(
    `a leader after term ${term} to order ${count} copies`,
    async () => (await orderedAfter(cluster, term)) === count,
    withinMs,
  );
  return performance.now() - sinceMs;
}

async function untilEach(copies: number): Promise<void> {
  await untilSpread(cluster, { 'manager-1': copies, 'manager-2': copies, 'manager-3': copies });
}

async function leader(): Promise<{ readonly process: ClusterProcess; readonly term: number }> {
  const { name, term } = await until('a leader', () => leadOf(cluster));
  return { process: cluster.process(name), term };
}

/** Waits until that master leads and its term is on all assignments. */
async function untilLed(name: string, isRight: (lead: Lead) => boolean = () => true): ReturnType<typeof leader> {
  const { term } = await until(`${name} to lead`, async () => {
    const lead = await leadOf(cluster);
    return lead?.name === name && isRight(lead) ? lead : undefined;
  });
  await until('its term on all orders', async () => (await orderedAfter(cluster, term - 1)) !== undefined);
  return { process: cluster.process(name), term };
}

/** Writes as a deposed leader that does not know it would write if Consul allowed it. */
async function giveStaleOrder(manager: string, { name, term }: Lead): Promise<void> {
  const order = (await ordersOf(cluster)).get(manager);
  const deployments = (order?.deployments ?? []).map((deployment) => ({ ...deployment, count: 0 }));
  const key = `katamari/test/assignments/${manager}`;
  const body = cluster.sign(key, JSON.stringify({ term, leader: name, deployments }));
  const response = await cluster.consul.ask(`/v1/kv/${key}`, { method: 'PUT', body });
  expect(await response.text()).toContain('true');
}

async function refusals(): Promise<string[]> {
  const found = await Promise.all(cluster.managers.map((manager) => eventsOf(manager, 'order_refused')));
  return found.flat().map(({ text }) => text);
}

/** Assignments of that term that the managers obeyed. */
async function ordered(term: number): Promise<string[]> {
  const found = await Promise.all(cluster.managers.map((manager) => eventsOf(manager, 'assigned')));
  return found
    .flat()
    .map(({ text }) => text)
    .filter((text) => text.includes(` in term ${term}:`));
}

function failures(): string {
  return callsLine(callers, callers.failures(cluster.ledger()).length);
}

/** Consul may take twice the TTL to expire a session. */
const FROZEN_MS = 45_000;
