// A resource manager is killed while 32 clients call without pause. Calls in flight there fail at once, idempotent
// ones succeed elsewhere, and no later call fails. The others get its copies. It is restarted, gets its share back,
// and is registered once.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { untilRegistered } from '../../kit/cluster/registrations.ts';
import { callsLine, seconds, sharesOf, untilSpread } from '../../kit/cluster/view.ts';
import { until } from '../../kit/tools/wait.ts';

const TIMEOUT_MS = 10_000;
const EVENLY = { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 };
let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({ settings: { timeout: '10s' }, wanted: [tally({ count: 6 })] });
  await untilSpread(cluster, EVENLY);
  callers = new ClusterCallers({ doors: cluster.doors, clients: 32, timeoutMs: TIMEOUT_MS, seed: 202 });
  await until('answers', () => (callers.ends['ok'] ?? 0) > 500, 60_000);
}, 120_000);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
});

test('Calls in a killed manager fail at once or succeed elsewhere, and no later call fails', async () => {
  await untilSettled();
  const manager = cluster.process('manager-2');
  const copies = cluster.descendants().length;
  const inside = await until('calls to be under way there', async () => {
    const { inFlight } = (await manager.status()).calls;
    return inFlight >= 4 ? inFlight : 0;
  });
  await manager.kill();
  const killedAt = performance.now();
  await until('its chassis to go', () => cluster.strays().length === 0);
  const goneMs = performance.now() - killedAt;
  expect(cluster.descendants().length).toBeLessThan(copies);
  await untilSpread(cluster, { 'manager-1': 3, 'manager-3': 3 });
  const replacedMs = performance.now() - killedAt;
  const since = callers.sent;
  await until('calls after that', () => callers.sent - since > 500, 60_000);

  const failed = callers.failedSince(0);
  const lastSentMs = Math.max(0, ...failed.map(({ sentAtMs }) => sentAtMs - killedAt));
  const lastSettledMs = Math.max(0, ...failed.map(({ settledAtMs }) => settledAtMs - killedAt));
  console.log(
    `manager killed with some ${inside} calls: ${callsLine(callers, failed.length)}, all those sent at most ${lastSentMs.toFixed(0)} ms and settled at most ` +
      `${lastSettledMs.toFixed(0)} ms after; its chassis gone after ${goneMs.toFixed(0)} ms, replaced after ${seconds(replacedMs)}`,
  );
  // Calls that were in flight, and no idempotent ones.
  expect(failed.map(({ end, method }) => [method, end.ok || end.code, end.ok || end.message])).toEqual(
    failed.map(() => [
      'once',
      'resource_failed',
      expect.stringContaining('Manager manager-2 failed while it worked on once: '),
    ]),
  );
  expect(failed.length).toBeLessThanOrEqual(32);
  expect([lastSentMs < 1_000, lastSettledMs < 3_000]).toEqual([true, true]);
}, 120_000);

test('A killed manager comes back by itself, gets its share, and is registered once', async () => {
  const before = callers.failedSince(0).length;
  const startedAt = performance.now();
  await cluster.process('manager-2').restart();
  await untilSpread(cluster, EVENLY);
  const backMs = performance.now() - startedAt;
  const shares = await sharesOf(cluster, callers, 2_000);
  await untilRegistered(cluster, 30_000);
  const percents = shares.map((share) => `${Math.round(share * 100)} %`).join(', ');
  console.log(`manager back with its share after ${seconds(backMs)}; calls now go ${percents}`);
  expect(Math.min(...shares)).toBeGreaterThan(0.2);
  expect(callers.failedSince(0).length).toBe(before);
}, 120_000);

test('Every answered call ran, and no call that must not ran twice', async () => {
  await callers.stop();
  expect(checkLedger(cluster.ledger(), callers)).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
  expect(cluster.strays()).toEqual([]);
});

/** A new leader waits longer for missing managers, because they may be about to join. */
async function untilSettled(): Promise<void> {
  const uptimes = () => Promise.all(cluster.masters.map(async (master) => (await master.status()).uptimeMs));
  await until('the masters to be in their everyday', async () => Math.min(...(await uptimes())) > SETTLE_MS, 60_000);
}

const SETTLE_MS = 16_000;
