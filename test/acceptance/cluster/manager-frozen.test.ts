// A resource manager is frozen while 32 clients call without pause. Calls to it end at their deadline at the latest,
// soon no new one goes there, and after thawing it serves again.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { callsLine, seconds, sharesOf, untilSpread } from '../../kit/cluster/view.ts';
import { until } from '../../kit/tools/wait.ts';

const TIMEOUT_MS = 2_000;
/** The allowed delay after a deadline, plus a margin for a busy machine. */
const LATE_MS = 50 + 450;
let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({ settings: { timeout: '2s' }, wanted: [tally({ count: 6 })] });
  await untilSpread(cluster, { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 });
  callers = new ClusterCallers({ doors: cluster.doors, clients: 32, timeoutMs: TIMEOUT_MS, seed: 303 });
  await until('answers', () => (callers.ends['ok'] ?? 0) > 500, 60_000);
}, 120_000);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
});

test('A frozen manager delays only the calls it has, and soon gets no new ones', async () => {
  const manager = cluster.process('manager-3');
  const before = callers.failedSince(0);
  manager.signal('SIGSTOP');
  const frozenAt = performance.now();
  await until(
    'every call that went there to have ended',
    () => performance.now() - frozenAt > FROZEN_MS,
    FROZEN_MS * 2,
  );
  const failed = callers.failedSince(0);
  const lastSentMs = Math.max(0, ...failed.map(({ sentAtMs }) => sentAtMs - frozenAt));
  const latestMs = Math.max(0, ...failed.map(({ lateMs }) => lateMs));
  console.log(
    `manager frozen for ${seconds(FROZEN_MS)}: ${callsLine(callers, failed.length)}, the last of those sent after ` +
      `${seconds(lastSentMs)} (promised 2), the latest settled ${latestMs.toFixed(0)} ms after its deadline (promised 50)`,
  );
  expect(before).toEqual([]);
  expect(failed.length).toBeGreaterThan(0);
  expect(new Set(failed.map(({ end }) => end.ok || end.code))).toEqual(new Set(['timeout']));
  expect([lastSentMs < 3 * 2_000, latestMs < LATE_MS]).toEqual([true, true]);
});

test('A thawed manager is used again', async () => {
  const [manager, before] = [cluster.process('manager-3'), callers.failedSince(0).length];
  const accepted = async (): Promise<number> => (await manager.status()).calls.accepted;
  manager.signal('SIGCONT');
  const thawedAt = performance.now();
  const old = await accepted();
  await until('new calls there', async () => (await accepted()) > old);
  const usedMs = performance.now() - thawedAt;
  await untilSpread(cluster, { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 });
  const shares = await sharesOf(cluster, callers, 2_000);
  const percents = shares.map((share) => `${Math.round(share * 100)} %`).join(', ');
  console.log(`manager thawed: used again after ${seconds(usedMs)}, calls now go ${percents}`);
  expect(Math.min(...shares)).toBeGreaterThan(0.2);
  expect(callers.failedSince(0).length).toBe(before);
}, 120_000);

test('Every answered call ran, and no call that must not ran twice', async () => {
  await callers.stop();
  expect(checkLedger(cluster.ledger(), callers)).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
});

/** Longer than the time to detect it and the deadline of the last call that went there. */
const FROZEN_MS = 6_000;
