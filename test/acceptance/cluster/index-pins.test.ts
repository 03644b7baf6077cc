// A version of an index that is pinned moves to the named managers while clients count words in it without pause, and
// no call fails. What operators read of managers that are away, drained or without the content service.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexCallers } from '../../kit/cluster/index-callers.ts';
import { katamariIndex, servedOf } from '../../kit/cluster/index-view.ts';
import { untilSpread } from '../../kit/cluster/view.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { fixture } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 180_000;
const WIKI = 'wiki@1.0.0';
let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);
let callers: IndexCallers | undefined;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-pins-'));
  writeWords(path.join(folder, 'wiki'), { a: 'the cat', b: 'the dog and the end', c: 'nothing', d: 'the' });
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 3,
    faceplates: 1,
    settings: { timeout: '10s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [{ service: 'Words', version: '1.0.0', command: fixture('words.ts'), count: 1 }],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1, 'manager-3': 1 });
  const source = path.join(folder, 'wiki');
  const added = await katamariIndex(cluster, 'add', WIKI, source, '--service', 'Words', '--replicas', '2');
  expect([added.stderr.replace(/Warning: files .*\n/, ''), added.code]).toEqual(['', 0]);
}, BUSY_MS);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

async function untilServedBy(...managers: readonly number[]): Promise<void> {
  const wanted = Object.fromEntries(managers.map((number) => [`manager-${number}`, '0-3']));
  let seen: unknown;
  await until(
    () => `${JSON.stringify(wanted)} to be served, seen ${JSON.stringify(seen)}`,
    async () => JSON.stringify((seen = await servedOf(cluster, WIKI))) === JSON.stringify(wanted),
  );
}

interface Node {
  readonly manager: string;
  readonly state: string;
  readonly serving: number;
  readonly problems: readonly string[];
}

/** `manager-1 UP 4` for each manager. */
async function nodes(): Promise<string[]> {
  const { stdout } = await katamariIndex(cluster, 'nodes', '--json');
  return (JSON.parse(stdout) as Node[]).map(({ manager, state, serving }) => `${manager} ${state} ${serving}`);
}

describe('A pinned index', () => {
  test(
    'moves to the named managers, and no call fails meanwhile',
    async () => {
      callers = new IndexCallers({
        urls: cluster.doors.map(({ host, jsonRpcPort }) => `http://${host}:${jsonRpcPort}`),
        clients: 2,
        method: 'wiki.total',
        params: { word: 'the' },
        answers: ['4'],
      });
      for (const pins of [[3], [1, 2], [2, 3]]) {
        const names = pins.map((number) => `manager-${number}`);
        const pinned = await katamariIndex(cluster, 'pin', WIKI, ...names);
        expect([pinned.code, pinned.stderr !== '']).toEqual([0, pins.length === 1]);
        await untilServedBy(...pins);
      }
      await callers.stop();
      console.log(`pins: ${callers.line}`);
      expect([callers.failed, callers.wrong]).toEqual([[], []]);
      expect(await nodes()).toEqual(['manager-1 UP 0', 'manager-2 UP 4', 'manager-3 UP 4']);
    },
    BUSY_MS,
  );

  test(
    'waits for a manager that is off, and other managers do not get it',
    async () => {
      await cluster.process('manager-3').stop();
      await untilServedBy(2);
      const status = async (): Promise<string> => (await katamariIndex(cluster, 'status', WIKI)).stdout;
      const why = '2 replicas are wanted, and 1 manager has the content service of those that it is pinned to';
      await until('the reason', async () => (await status()).includes(why));
      expect(await status()).toContain('1 of 2 replicas: 1 manager can hold it');
      const again = await katamariIndex(cluster, 'pin', WIKI, 'manager-2', 'manager-9');
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('there are manager-1, manager-2')]);
      await cluster.process('manager-3').restart();
      await untilServedBy(2, 3);
      const { code } = await katamariIndex(cluster, 'pin', WIKI, '--clear');
      expect(code).toBe(0);
      await until('every manager to have a share', async () => Object.keys(await servedOf(cluster, WIKI)).length === 3);
    },
    BUSY_MS,
  );
});
