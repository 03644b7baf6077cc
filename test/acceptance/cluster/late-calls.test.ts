// A deadline holds across a partition. The path from a faceplate to a manager is cut for four seconds, while calls
// with a deadline of 300 ms come in. TCP delivers the packets of the cut seconds after it heals. A call that was
// answered `timeout` and had not started must never start. The ledger of the chassis shows each start. Needs root
// for network namespaces.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sleep } from '../../../core/mod.ts';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import type { Ways } from '../../kit/cluster/namespaces.ts';
import { until } from '../../kit/tools/wait.ts';

const CUT_MS = 4_000;
const TIMEOUT_MS = 300;
const CALLERS = 16;
const FACEPLATE = 'faceplate-1';
const MANAGER = 'manager-1';

let cluster: Cluster;
reportFailures(() => cluster);

beforeAll(async () => {
  cluster = await startCluster({
    network: 'namespaces',
    consuls: 1,
    masters: 1,
    managers: 1,
    faceplates: 1,
    deployments: [tally({ count: 2 })],
  });
  await until('a first call', async () => (await call('first')) === 'ok');
}, 120_000);

afterAll(() => cluster?.end(), 60_000);

describe('A call that was answered with timeout during a cut', () => {
  for (const [what, from, to, ways] of [
    ['from the faceplate to the manager', FACEPLATE, MANAGER, 'one way'],
    ['both ways', FACEPLATE, MANAGER, 'both'],
  ] as const)
    test(`never starts afterwards: ${what}`, () => cutAndHeal(what, from, to, ways), 120_000);
});

async function cutAndHeal(what: string, from: string, to: string, ways: Ways): Promise<void> {
  /** Messages of the calls that were answered `timeout`, by id. */
  const timedOut = new Map<string, string>();
  let isOver = false;
  let sent = 0;
  const callers = Array.from({ length: CALLERS }, async () => {
    while (!isOver) {
      const id = `${ways}-${sent++}`;
      const end = await call(id);
      if (end !== 'ok') timedOut.set(id, end);
    }
  });
  await until('calls', () => sent > 10 * CALLERS);
  await cluster.cut(from, to, ways);
  await sleep(CUT_MS);
  isOver = true;
  await Promise.all(callers);
  const started = startedIds();
  const notStarted = [...timedOut.keys()].filter((id) => !started.has(id));
  const onTheLink = notStarted.filter((id) => timedOut.get(id)?.includes('did not answer') === true);
  // Calls that the faceplate had sent, and that the network holds now.
  expect(onTheLink.length).toBeGreaterThan(0);

  await cluster.heal(from, to, ways);
  await until('the network to deliver everything', async () => (await unsentBytes()) === 0, 60_000);
  await until('the link to work again', async () => (await call(`${ways}-last-${sent++}`)) === 'ok');
  await until('the network to deliver everything', async () => (await unsentBytes()) === 0, 60_000);
  await until('the manager to read the old connection to its end', async () => (await links()) === 1);
  expect(await call(`${ways}-last-${sent++}`)).toBe('ok');
  const startedLate = notStarted.filter((id) => startedIds().has(id));
  console.log(
    `cut ${what}: ${sent} calls, ${timedOut.size} timed out, ${onTheLink.length} of them held by the network`,
  );
  expect(startedLate).toEqual([]);
}

/** Returns `ok`, or code and message of the error. */
async function call(id: string): Promise<string> {
  const response = await fetch(`${cluster.process(FACEPLATE).addresses.jsonRpc}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'katamari-timeout-ms': String(TIMEOUT_MS) },
    body: JSON.stringify({ jsonrpc: '2.0', id, method: 'Tally.once', params: { id, ms: 1 } }),
  });
  const { error } = (await response.json()) as { error?: { data: { code: string }; message: string } };
  return error === undefined ? 'ok' : `${error.data.code}: ${error.message}`;
}

/** Open connections to the link of the manager. */
async function links(): Promise<number | undefined> {
  return (await cluster.process(MANAGER).status()).connections['link'];
}

function startedIds(): Set<string> {
  return new Set(cluster.ledger().map((line) => line.split(' ')[1] ?? ''));
}

/** Bytes that the host of the faceplate has not delivered to the link of the manager, on open and closed sockets. */
async function unsentBytes(): Promise<number> {
  const { host } = cluster.process(FACEPLATE);
  const linkPort = cluster.process(MANAGER).ports.link.toString(16).toUpperCase().padStart(4, '0');
  const [program = '', ...args] = host.command(['cat', '/proc/net/tcp']);
  const { stdout } = await promisify(execFile)(program, args);
  return stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , remote = '']) => remote.endsWith(`:${linkPort}`))
    .reduce((sum, [, , , , queues = '0:0']) => sum + Number.parseInt(queues.split(':')[0] ?? '0', 16), 0);
}
