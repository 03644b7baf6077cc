// Indices on many machines, with real processes and a real Consul: added and removed with the command, and called
// without pause while managers are killed, frozen, cut off, stopped and added, and while versions change. The right
// answer is known, and every call gets it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexCallers } from '../../kit/cluster/index-callers.ts';
import { holdingsOf, indexKeys, katamariIndex, liveFiles, servedOf } from '../../kit/cluster/index-view.ts';
import { LinkRelay } from '../../kit/cluster/link-relay.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { seconds, untilSpread } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { fixture, jsonRpc } from '../../kit/mesh/mesh.ts';
import { Random } from '../../kit/tools/random.ts';
import type { RunResult } from '../../kit/tools/run.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 300_000;
const WIKI = 'wiki@1.0.0';
const LINK_PORT = 9070;
const CUTS = sized(50, 20);
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const random = new Random(seed);

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);
let relay: LinkRelay;
let callers: IndexCallers | undefined;
/** Occurrences of the word in each version. */
const totals: Record<string, number> = {};

beforeAll(async () => {
  console.log(`seed ${seed}`);
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-indices-'));
  for (const version of ['one', 'two', 'broken']) totals[version] = writeIndex(version);
  writeFileSync(path.join(folder, 'broken/c/damaged'), '');
  // The faceplate reaches the first manager through the relay.
  const relayed = `127.${random.between(1, 254)}.${random.between(0, 254)}.250`;
  relay = await LinkRelay.start(relayed, LINK_PORT);
  cluster = await startCluster({
    consuls: 1,
    masters: 2,
    managers: 4,
    faceplates: 1,
    settings: (name) => ({
      timeout: '4s',
      content: { sources: [pathToFileURL(folder).href] },
      ...(name === 'manager-1' ? { advertise: relayed } : {}),
    }),
    deployments: [{ service: 'Words', version: '1.0.0', command: fixture('words.ts'), count: 1 }],
  });
  relay.setTarget(manager(1).host.address, LINK_PORT);
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1, 'manager-3': 1, 'manager-4': 1 });
  await Promise.all([manager(3).stop(), manager(4).stop()]);
}, BUSY_MS);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
  await relay?.close();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);
afterEach(async () => {
  await callers?.stop();
  callers = undefined;
});

/** Writes four shards of random words. Returns how often "the" is in them. */
function writeIndex(name: string): number {
  const texts = ['a', 'b', 'c', 'd'].map((shard): [string, string[]] => [
    shard,
    Array.from({ length: random.between(50, 500) }, () => random.pick(['the', 'cat', 'and', 'dog'])),
  ]);
  writeWords(path.join(folder, name), Object.fromEntries(texts.map(([shard, words]) => [shard, words.join(' ')])));
  return texts.reduce((sum, [, words]) => sum + words.filter((word) => word === 'the').length, 0);
}

const manager = (number: number): ClusterProcess => cluster.process(`manager-${number}`);

/** `katamari index add` */
function add(index: string, source: string, ...options: readonly string[]): Promise<RunResult> {
  return katamariIndex(cluster, 'add', index, path.join(folder, source), '--service', 'Words', ...options);
}

/** `katamari index promote` and others. A command whose call times out on a busy machine is given again. */
async function change(...args: readonly string[]): Promise<void> {
  let hasTimedOut = false;
  await until(`katamari index ${args.join(' ')}`, async () => {
    const { code, stderr } = await katamariIndex(cluster, ...args);
    if (code === 0 || (hasTimedOut && args[0] === 'remove' && stderr.includes('There is no index'))) return true;
    expect(stderr).toContain('The work continues');
    hasTimedOut = true;
    return false;
  });
}

async function total(): Promise<unknown> {
  const url = `${cluster.faceplates[0]?.addresses.jsonRpc}/rpc`;
  const { result, error } = await jsonRpc(url, 'wiki.total', { word: 'the' });
  return error === undefined ? result : error;
}

function startCallers(...versions: readonly string[]): IndexCallers {
  return (callers = new IndexCallers({
    urls: cluster.doors.map(({ host, jsonRpcPort }) => `http://${host}:${jsonRpcPort}`),
    clients: 4,
    method: 'wiki.total',
    params: { word: 'the' },
    answers: versions.map((version) => String(totals[version])),
  }));
}

/** Waits for so many more calls. */
async function more(calls: number): Promise<void> {
  const before = callers?.sent ?? 0;
  await until(`${calls} calls`, () => (callers?.sent ?? 0) - before >= calls);
}

async function untilServed(wanted: Readonly<Record<string, string>>, index: string = WIKI): Promise<void> {
  let seen: unknown;
  await until(
    () => `${JSON.stringify(wanted)} of ${index} to be served, seen ${JSON.stringify(seen)}`,
    async () => JSON.stringify((seen = await servedOf(cluster, index))) === JSON.stringify(wanted),
  );
}

/** Waits until each shard has so many holders; returns the served places by manager. */
async function untilReplicas(count: number): Promise<Record<string, number[]>> {
  let seen: Record<string, string> = {};
  return await until(
    () => `${count} replicas of each shard, seen ${JSON.stringify(seen)}`,
    async () => {
      seen = await servedOf(cluster, WIKI);
      const places = Object.fromEntries(Object.entries(seen).map(([name, text]) => [name, expanded(text)]));
      const holders = [0, 1, 2, 3].map((place) => Object.values(places).filter((own) => own.includes(place)).length);
      return holders.every((own) => own === count) ? places : undefined;
    },
  );
}

function expanded(places: string): number[] {
  return places.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

/** Waits until calls of the faceplate reach the manager. */
async function untilUsed(one: ClusterProcess): Promise<void> {
  const accepted = async (): Promise<number> => (await one.status()).calls.accepted;
  const before = await accepted();
  await until(`${one.name} to be used`, async () => (await accepted()) > before + 5);
}

function expectAllRight(): void {
  expect([...new Set(callers?.failed)]).toEqual([]);
  expect([...new Set(callers?.wrong)]).toEqual([]);
}

describe('An index on two managers', () => {
  test(
    'is complete with every shard on both when the command says so',
    async () => {
      const added = await add(WIKI, 'one', '--replicas', '2', '--wait', '3m');
      expect([added.stderr, added.code]).toEqual(['', 0]);
      await untilServed({ 'manager-1': '0-3', 'manager-2': '0-3' });
      const status = await katamariIndex(cluster, 'status', 'wiki', '--json');
      expect(JSON.parse(status.stdout)).toMatchObject([{ state: 'COMPLETE', shards: 4, served: 4, share: 1 }]);
      expect(await total()).toBe(totals['one']);
      const again = await add(WIKI, 'two');
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('a version never changes')]);
    },
    BUSY_MS,
  );

  test(
    'leaves nothing when it is removed, and comes back without a byte fetched',
    async () => {
      const before = liveFiles(cluster, 'manager-1');
      expect(Object.keys(before)).toContain(`${WIKI}/a/content/words.txt`);
      await change('remove', WIKI);
      await until('no key to be left', async () => (await indexKeys(cluster)).length === 0);
      await until('no file to be served', () =>
        [1, 2].every((number) => Object.keys(liveFiles(cluster, `manager-${number}`)).length === 0),
      );
      await until('the managers to say so', async () =>
        [...(await holdingsOf(cluster)).values()].every(
          ({ serving, onDisk }) => Object.keys(serving).length + Object.keys(onDisk).length === 0,
        ),
      );
      expect(await total()).toMatchObject({ data: { code: 'no_pool' } });
      const added = await add(WIKI, 'one', '--replicas', '2', '--wait', '3m');
      expect([added.stderr, added.code]).toEqual(['', 0]);
      expect(liveFiles(cluster, 'manager-1')).toEqual(before);
    },
    BUSY_MS,
  );

  test(
    `answers every call while the link to one manager breaks ${CUTS} times`,
    async () => {
      startCallers('one');
      await untilUsed(manager(1));
      for (let cuts = 0; cuts < CUTS; cuts++) {
        relay.cut();
        await more(random.between(5, 50));
        relay.heal();
        await untilUsed(manager(1));
      }
      console.log(`${CUTS} broken links: ${callers?.line}`);
      expectAllRight();
    },
    2 * BUSY_MS,
  );

  test(
    'answers every call while a manager is frozen, and uses it again',
    async () => {
      startCallers('one');
      await more(1_000);
      const beforeMs = callers?.p99Ms() ?? 0;
      manager(2).signal('SIGSTOP');
      await more(1_000);
      const frozenMs = callers?.p99Ms() ?? 0;
      manager(2).signal('SIGCONT');
      await untilUsed(manager(2));
      await untilServed({ 'manager-1': '0-3', 'manager-2': '0-3' });
      console.log(`frozen: p99 ${beforeMs.toFixed(0)} -> ${frozenMs.toFixed(0)} ms, ${callers?.line}`);
      expectAllRight();
    },
    BUSY_MS,
  );

  test(
    'answers every call while a manager is killed, which comes back with its files',
    async () => {
      startCallers('one');
      const files = liveFiles(cluster, 'manager-2');
      await more(200);
      await manager(2).kill();
      await untilServed({ 'manager-1': '0-3' });
      await more(200);
      const started = performance.now();
      await manager(2).restart();
      await untilServed({ 'manager-1': '0-3', 'manager-2': '0-3' });
      console.log(`killed: ${callers?.line}; serves again ${seconds(performance.now() - started)} after its start`);
      await untilUsed(manager(2));
      expect(liveFiles(cluster, 'manager-2')).toEqual(files);
      expectAllRight();
    },
    BUSY_MS,
  );
});

describe('An index on more managers', () => {
  test(
    'moves to a third manager, and has its replicas again after one is killed',
    async () => {
      startCallers('one');
      await manager(3).restart();
      await until('the third manager to have a share', async () => 'manager-3' in (await servedOf(cluster, WIKI)));
      await untilReplicas(2);
      await untilSettled();
      const files = liveFiles(cluster, 'manager-2');
      await manager(2).kill();
      const killedAt = performance.now();
      await until('the other managers to serve all', async () => {
        const held = await servedOf(cluster, WIKI);
        return held['manager-1'] === '0-3' && held['manager-3'] === '0-3';
      });
      console.log(`replicas back after ${seconds(performance.now() - killedAt)} (promised 4), ${callers?.line}`);
      await manager(2).restart();
      await until('its share', async () => 'manager-2' in (await servedOf(cluster, WIKI)));
      await untilReplicas(2);
      const now = Object.entries(liveFiles(cluster, 'manager-2'));
      expect(now.length).toBeGreaterThan(0);
      for (const [name, inode] of now) if (name in files) expect([name, inode]).toEqual([name, files[name]]);
      expectAllRight();
    },
    BUSY_MS,
  );

  test(
    'with three replicas has the right count after every manager that goes or comes',
    async () => {
      await change('replicate', WIKI, '3');
      await untilReplicas(3);
      const right = async (): Promise<void> => expect(await total()).toBe(totals['one']);
      await right();
      startCallers('one');
      await manager(1).stop();
      await right();
      await manager(2).stop();
      await right();
      await manager(4).restart();
      await right();
      await untilServed({ 'manager-3': '0-3', 'manager-4': '0-3' });
      await right();
      await manager(3).stop();
      await right();
      console.log(`three replicas: ${callers?.line}`);
      expectAllRight();
      await Promise.all([manager(1), manager(2), manager(3)].map((one) => one.restart()));
      await untilReplicas(3);
    },
    BUSY_MS,
  );

  test(
    'answers every call while another version gets them and the first one is removed',
    async () => {
      startCallers('one', 'two');
      const added = await add('wiki@2.0.0', 'two', '--no-promote', '--wait', '3m');
      expect([added.stderr, added.code]).toEqual(['', 0]);
      await more(500);
      await change('promote', 'wiki@2.0.0');
      await until('the second version to get the calls', async () => (await total()) === totals['two']);
      await more(500);
      await change('promote', WIKI);
      await more(500);
      await change('promote', 'wiki@2.0.0');
      await change('remove', WIKI);
      await until('its files to go', async () => Object.keys(await servedOf(cluster, WIKI)).length === 0);
      await more(500);
      console.log(`promoted and removed: ${callers?.line}`);
      expectAllRight();
      expect(await total()).toBe(totals['two']);
    },
    BUSY_MS,
  );

  test(
    'with a broken shard stays incomplete, and says which one, where and why',
    async () => {
      const added = await add('broken@1.0.0', 'broken', '--replicas', '2', '--wait', '3s');
      expect([added.code, added.stderr]).toEqual([
        1,
        expect.stringContaining('broken@1.0.0 is not complete after 3.0s'),
      ]);
      const why = /broken@1.0.0\/c on manager-\d: .*words.txt ends too early \(\d+ tr(y|ies)\)/;
      let seen = '';
      await until(
        () => `the other shards to be served, and the reason, seen ${seen}`,
        async () => {
          seen = (await katamariIndex(cluster, 'status', 'broken', '--json')).stdout;
          const [{ served, conditions }] = JSON.parse(seen) as [{ served: number; conditions: string[] }];
          return served === 3 && why.test(conditions.join('\n'));
        },
      );
      expect(JSON.parse(seen)).toMatchObject([{ state: 'LOADING', shards: 4, served: 3 }]);
      expect((await katamariIndex(cluster, 'check', 'broken')).code).toBe(1);
      await change('remove', 'broken@1.0.0');
      await until('it to go', async () => (await indexKeys(cluster)).every((key) => !key.includes('broken')));
    },
    BUSY_MS,
  );
});

/** A new leader waits longer for missing managers. */
async function untilSettled(): Promise<void> {
  const uptimes = () => Promise.all(cluster.masters.map(async (master) => (await master.status()).uptimeMs));
  await until('the masters to be in their everyday', async () => Math.min(...(await uptimes())) > SETTLE_MS, BUSY_MS);
}

const SETTLE_MS = 16_000;
