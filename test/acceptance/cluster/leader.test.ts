// The leader is killed, stopped, frozen, while 32 clients call without pause: a new one acts in time, no call
// notices, and one that comes back from the cold gives no order of its old term; one that is given all the same is
// refused.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
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
}, 60_000);

test('A leader that is killed has a successor that acts, and no call fails', async () => {
  const { process, term } = await leader();
  const since = performance.now();
  const killed = process.kill();
  const tookMs = await untilScaled(9, term, since);
  await killed;
  await untilEach(3);
  console.log(`leader killed: a new one has acted after ${seconds(tookMs)} (promised 3), ${failures()}`);
  expect(tookMs).toBeLessThan(3 * 3_000);
  expect(callers.failures(cluster.ledger())).toEqual([]);
}, 60_000);

test('A leader that is stopped hands over at once, and no call fails', async () => {
  await cluster.process('master-1').restart();
  // The first in the order leads again when it has been there for a while.
  const { process, term } = await untilLed('master-1');
  const since = performance.now();
  process.signal('SIGTERM');
  const tookMs = await untilScaled(6, term, since);
  expect(await process.ended).toEqual({ code: 0, signal: null });
  await untilEach(2);
  console.log(`leader stopped: a new one has acted after ${seconds(tookMs)} (promised 1), ${failures()}`);
  expect(tookMs).toBeLessThan(3 * 1_000);
  expect(callers.failures(cluster.ledger())).toEqual([]);
}, 60_000);

test('A leader that was frozen does nothing in its old term, and a stale order is refused', async () => {
  await cluster.process('master-1').restart();
  const { process, term } = await untilLed('master-1');
  process.signal('SIGSTOP');
  const frozenAt = performance.now();
  // What it would do, did it not know that it leads no more.
  const tookMs = await untilScaled(9, term, frozenAt, FROZEN_MS);
  await untilEach(3);
  const [refusedBefore, orderedBefore] = [await refusals(), await ordered(term)];
  process.signal('SIGCONT');
  const frozenMs = performance.now() - frozenAt;
  const again = await untilLed('master-1', ({ term: now }) => now > term);
  await until('the orders of its new term', async () => (await orderedAfter(cluster, again.term - 1)) === 9, 30_000);
  // Managers tell of every order that changed something: none is of the old term.
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
  await until('the leader to put it right', async () => (await orderedAfter(cluster, again.term - 1)) === 9, 30_000);
  expect(await copiesOf(cluster)).toEqual({ 'manager-1': 3, 'manager-2': 3, 'manager-3': 3 });
  const figures = `frozen for ${seconds(frozenMs)}, a new one had acted after ${seconds(tookMs)}`;
  console.log(`leader ${figures}; stale order refused, ${failures()}`);
  expect(callers.failures(cluster.ledger())).toEqual([]);
}, 120_000);

test('All calls were answered, and none that may run once ran twice', async () => {
  await callers.stop();
  expect(callers.failures(cluster.ledger())).toEqual([]);
  expect(checkLedger(cluster.ledger(), callers)).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
});

/** Wants so many copies; how long after `sinceMs` a leader of a later term than this has ordered them. */
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

/** Waits until that master leads, and its term is on all orders. */
async function untilLed(name: string, isRight: (lead: Lead) => boolean = () => true): ReturnType<typeof leader> {
  const { term } = await until(
    `${name} to lead`,
    async () => {
      const lead = await leadOf(cluster);
      return lead?.name === name && isRight(lead) ? lead : undefined;
    },
    60_000,
  );
  await until('its term on all orders', async () => (await orderedAfter(cluster, term - 1)) !== undefined, 30_000);
  return { process: cluster.process(name), term };
}

/** As a leader would write it that does not know that it leads no more, if Consul let it. */
async function giveStaleOrder(manager: string, { name, term }: Lead): Promise<void> {
  const order = (await ordersOf(cluster)).get(manager);
  const deployments = (order?.deployments ?? []).map((deployment) => ({ ...deployment, count: 0 }));
  const body = JSON.stringify({ term, leader: name, deployments });
  const response = await cluster.consul.ask(`/v1/kv/katamari/test/assignments/${manager}`, { method: 'PUT', body });
  expect(await response.text()).toContain('true');
}

async function refusals(): Promise<string[]> {
  const found = await Promise.all(cluster.managers.map((manager) => eventsOf(manager, 'order_refused')));
  return found.flat().map(({ text }) => text);
}

/** Orders of that term that the managers obeyed. */
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

/** Consul may take twice the TTL of a session until it gives it up. */
const FROZEN_MS = 45_000;
