// A manager is drained and undrained by command. Then every process is stopped and started again, one after the
// other, while 32 clients call without pause. No call fails, not even over raw Thrift, and clients of a faceplate
// that stays up notice nothing.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../../kit/cluster/callers.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { callsLine, copiesOf, seconds, sharesOf, untilSpread } from '../../kit/cluster/view.ts';
import { untilRegistered } from '../../kit/cluster/registrations.ts';
import { runKatamari, type RunResult } from '../../kit/tools/run.ts';
import { until } from '../../kit/tools/wait.ts';

const TIMEOUT_MS = 10_000;
const EVENLY = { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 };
let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({ settings: { timeout: '10s' }, wanted: [tally({ count: 6 })] });
  await untilSpread(cluster, EVENLY);
  callers = new ClusterCallers({ doors: cluster.doors, clients: 32, timeoutMs: TIMEOUT_MS, seed: 505 });
  await until('answers', () => (callers.ends['ok'] ?? 0) > 500, 60_000);
}, 120_000);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
});

test('A manager is drained and undrained, and no call fails', async () => {
  const since = performance.now();
  expect(await katamari('drain', 'manager-1')).toMatchObject({ code: 0, stderr: '' });
  const drainedMs = performance.now() - since;
  expect(await copiesOf(cluster)).toEqual({ 'manager-2': 3, 'manager-3': 3 });
  expect(await katamari('undrain', 'manager-1')).toMatchObject({ code: 0, stderr: '' });
  await untilSpread(cluster, EVENLY);
  console.log(`manager drained in ${seconds(drainedMs)} and given back: ${figures()}`);
  expect([failures(), callers.closedBetween, callers.notTaken]).toEqual([[], 0, 0]);
}, 120_000);

test('Masters and managers are restarted in turn, and no call fails', async () => {
  for (const { name } of [...cluster.masters, ...cluster.managers]) await roll(name);
  console.log(`masters and managers rolled: ${figures()}`);
  // The clients are connected to faceplates, which stay up.
  expect([failures(), callers.closedBetween, callers.notTaken]).toEqual([[], 0, 0]);
}, 180_000);

test('Faceplates are restarted in turn: they close connections between calls only', async () => {
  for (const { name } of cluster.faceplates) {
    const before = { ...callers.closedBy };
    await roll(name);
    // Clients notice it at their next call.
    await until('a client to see it', () => callers.closedBy[name] !== before[name]);
    const closed = cluster.faceplates.filter((one) => callers.closedBy[one.name] !== before[one.name]);
    expect(closed.map((one) => one.name)).toEqual([name]);
    // The next one stops when clients have returned to this one.
    const { sent, byFaceplate } = callers;
    const calls = byFaceplate[name] ?? 0;
    await until('clients to come back', () => (byFaceplate[name] ?? 0) > calls && callers.sent > sent + 200, 60_000);
  }
  console.log(`faceplates rolled: ${figures()}, ${callers.closedBetween} connections closed between calls`);
  expect(failures()).toEqual([]);
}, 180_000);

test('The mesh is complete again and registered once; no call that must not ran twice', async () => {
  await untilSpread(cluster, EVENLY);
  await untilRegistered(cluster, 30_000);
  expect(Math.min(...(await sharesOf(cluster, callers, 1_000)))).toBeGreaterThan(0.2);
  await callers.stop();
  expect(failures()).toEqual([]);
  expect(checkLedger(cluster.ledger(), callers)).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
  expect(cluster.strays()).toEqual([]);
}, 120_000);

/** Sends SIGTERM, waits, starts again, waits. */
async function roll(name: string): Promise<void> {
  const process = cluster.process(name);
  const since = performance.now();
  const end = await process.stop();
  const stoppedMs = performance.now() - since;
  expect([name, end]).toEqual([name, { code: 0, signal: null }]);
  process.start();
  const readyMs = await process.untilReady();
  console.log(`${name} stopped in ${seconds(stoppedMs)}, ready again in ${seconds(readyMs)}`);
}

function katamari(...args: string[]): Promise<RunResult> {
  const [faceplate] = cluster.faceplates;
  return runKatamari(args, {
    env: { KATAMARI_URL: faceplate?.addresses.jsonRpc ?? '', KATAMARI_TOKEN: cluster.adminToken },
  });
}

function failures(): unknown[] {
  return callers.failures(cluster.ledger());
}

function figures(): string {
  return callsLine(callers, failures().length);
}
