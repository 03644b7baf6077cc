// The path between one faceplate and one manager is cut: packets are lost silently, in one direction or both. Calls
// on this path settle, the other managers serve the other calls, and the link reconnects by itself shortly after the
// path is healed. Needs root for network namespaces.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkLedger, ClusterCallers, type CallRecord } from '../../kit/cluster/callers.ts';
import { callsLine, seconds, untilSpread } from '../../kit/cluster/view.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { sleep } from '../../../core/mod.ts';
import type { Ways } from '../../kit/cluster/namespaces.ts';
import { until } from '../../kit/tools/wait.ts';

const TIMEOUT_MS = 4_000;
/** Time after the cut in which new calls may still go there; the promise is 2 s. */
const NOTICED_MS = 6_000;
/** Time after healing until the link must be back; the promise is a few seconds. */
const HEALED_MS = 15_000;
/** Allowed delay after the deadline. The promise is 50 ms, and the figures are printed. */
const LATE_MS = 2_000;
const CUT_MS = 8_000;
const FACEPLATE = 'faceplate-1';
const MANAGER = 'manager-1';

let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClusterCallers;

beforeAll(async () => {
  cluster = await startCluster({
    network: 'namespaces',
    settings: { timeout: `${TIMEOUT_MS}ms` },
    wanted: [tally({ count: 6 })],
  });
  await untilSpread(cluster, { 'manager-1': 2, 'manager-2': 2, 'manager-3': 2 });
  callers = new ClusterCallers({ doors: cluster.doors, clients: 32, timeoutMs: TIMEOUT_MS, seed: 606 });
}, 120_000);

afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
});

describe('A cut between a faceplate and a manager', () => {
  for (const [what, from, to, ways] of [
    ['both ways', FACEPLATE, MANAGER, 'both'],
    ['from the faceplate to the manager', FACEPLATE, MANAGER, 'one way'],
    ['from the manager to the faceplate', MANAGER, FACEPLATE, 'one way'],
  ] as const) {
    test(
      `${what} fails no call but those on their way, and heals by itself`,
      () => cutAndHeal(what, from, to, ways),
      120_000,
    );
  }

  test('has no lasting effect: no call ran twice, every chassis is unchanged', async () => {
    await callers.stop();
    const wrong = checkLedger(cluster.ledger(), callers);
    expect(wrong).toMatchObject({ ranTwice: [], answeredUnrun: [], refusedRan: [] });
    const pools = (await Promise.all(cluster.managers.map((manager) => manager.status()))).flatMap(
      (status) => status.pools,
    );
    expect(pools.map(({ alive, restartsByReason }) => [alive, restartsByReason])).toEqual(pools.map(() => [2, {}]));
    expect(cluster.strays()).toEqual([]);
    tell('cuts, in all');
  });
});

async function cutAndHeal(what: string, from: string, to: string, ways: Ways): Promise<void> {
  await until('the link', isLinked, HEALED_MS);
  const cutAt = performance.now();
  await cluster.cut(from, to, ways);
  await until('the cut to be noticed', async () => !(await isLinked()), NOTICED_MS);
  const noticedMs = performance.now() - cutAt;
  const served = answeredBy(FACEPLATE);
  await sleep(CUT_MS - (performance.now() - cutAt));
  // The other managers serve the calls meanwhile.
  expect(answeredBy(FACEPLATE) - served).toBeGreaterThan(100);

  const healedAt = performance.now();
  await cluster.heal(from, to, ways);
  await until('the link to heal', isLinked, HEALED_MS);
  const healedMs = performance.now() - healedAt;
  const before = await ranThere();
  await until('the manager to be used again from there', async () => (await ranThere()) > before + 5);

  // Every call that was on its way has settled by now.
  await until('calls of the cut to settle', () => performance.now() > cutAt + NOTICED_MS + TIMEOUT_MS);
  const failed = callers.failedSince(cutAt);
  const lateMs = Math.max(0, ...callers.remarkable.filter(({ sentAtMs }) => sentAtMs >= cutAt - TIMEOUT_MS).map(late));
  tell(
    `cut ${what}: noticed after ${seconds(noticedMs)} (promised 2), ${failed.length} calls failed, latest ${Math.round(lateMs)} ms ` +
      `after its deadline, linked ${seconds(healedMs)} after the way was healed`,
  );
  expect(failed.filter((call) => !isOfTheCut(call, cutAt))).toEqual([]);
  expect(lateMs).toBeLessThan(LATE_MS);
}

/** Whether the call went through that faceplate, may have been sent to that manager, and ended as such a call may. */
function isOfTheCut({ faceplate, sentAtMs, end }: CallRecord, cutAt: number): boolean {
  const hasEndOfCut = !end.ok && (end.code === 'timeout' || end.code === 'resource_failed' || end.code === 'another');
  return faceplate === FACEPLATE && sentAtMs < cutAt + NOTICED_MS && hasEndOfCut && end.message.includes(MANAGER);
}

function late({ lateMs }: CallRecord): number {
  return lateMs;
}

async function isLinked(): Promise<boolean> {
  const { processes } = await cluster.process(FACEPLATE).status();
  return processes.find(({ name }) => name === MANAGER)?.state === 'up';
}

/** Calls that were answered through the faceplate, except the few in flight. */
function answeredBy(faceplate: string): number {
  const failed = callers.remarkable.filter((call) => call.faceplate === faceplate && !call.end.ok).length;
  return (callers.byFaceplate[faceplate] ?? 0) - failed;
}

/** Calls of the faceplate's own clients, every second one, that ran in chassis of the manager. */
async function ranThere(): Promise<number> {
  const { pools } = await cluster.process(MANAGER).status();
  const pids = new Set(pools.flatMap(({ resources }) => resources.map(({ pid }) => String(pid))));
  return cluster.ledger().filter((line) => {
    const [, id = '', pid = ''] = line.split(' ');
    return pids.has(pid) && Number(id.split('-')[0]) % cluster.doors.length === 0;
  }).length;
}

function tell(text: string): void {
  console.log(`${text}; ${callsLine(callers, callers.failures(cluster.ledger()).length)}`);
}
