// Managers come and go while clients search an index without pause, by the real query language and with scores. The
// right answers are known; none is wrong and none fails. A manager that joins gets its share and no more, and one that
// comes back fetches nothing.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AnyService } from '../../../client/mod.ts';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexOperator } from '../../kit/cluster/index-operator.ts';
import { holdingsOf, servedOf } from '../../kit/cluster/index-view.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { buildText, TEXT_SEARCH, WORDS } from '../../kit/cluster/text-index.ts';
import { seconds, untilSpread } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { sumOf } from '../../kit/mesh/metrics.ts';
import { Random } from '../../kit/tools/random.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 600_000;
/** Each look takes time of a manager that calls wait for. */
const ASK_EVERY_MS = 200;
const VERSION = '1.0.0';
const SHARDS = 12;
const CALLERS = 9;
const CALLS = sized(10_000, 3_000);
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);
let wiki: IndexOperator;
/** Documents that have each word. */
let counts: Readonly<Record<string, number>>;
/** Hits by query, as the quiet mesh gave them. */
const hits = new Map<string, string>();

beforeAll(async () => {
  console.log(`seed ${seed}`);
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-managers-'));
  const shards = path.join(folder, 'wiki');
  counts = await buildText(shards, new Random(seed), { documents: 2_400, shards: SHARDS });
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 4,
    faceplates: 1,
    settings: { timeout: '4s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [TEXT_SEARCH],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1, 'manager-3': 1, 'manager-4': 1 });
  await Promise.all([manager(3).stop(), manager(4).stop()]);
  await until('the leader to miss them', async () => (await presentOf()).length === 2);
  wiki = new IndexOperator(cluster, 'wiki');
  const added = {
    source: pathToFileURL(shards).href,
    contentService: 'TextSearch',
    replicas: 2,
    promoteAtReplicas: 1,
  };
  await wiki.untilAddable(VERSION, added);
  await wiki.add(VERSION, added);
  await wiki.untilReplicas(VERSION, SHARDS, 2);
  await until('a right count', async () => (await count('the')) === counts['the']);
  for (const query of QUERIES) hits.set(query, await hitsOf(query));
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

const QUERIES = WORDS.flatMap((word, at) => [word, `${word} OR ${WORDS[(at + 1) % WORDS.length]}`]);

const manager = (number: number): ClusterProcess => cluster.process(`manager-${number}`);

async function count(query: string): Promise<unknown> {
  const { result, error } = await wiki.ask('wiki.count', { query });
  return error?.message ?? result;
}

async function hitsOf(query: string): Promise<string> {
  const { result, error } = await wiki.ask('wiki.search', { query, count: 5 });
  if (error !== undefined) throw new Error(error.message);
  return textOf(result as Found);
}

interface Found {
  readonly total: number;
  readonly hits: readonly { readonly shard: string; readonly document: number; readonly score: number }[];
}

const textOf = ({ total, hits: found }: Found): string =>
  JSON.stringify([total, found.map(({ shard, document, score }) => [shard, document, score])]);

/** Managers that the faceplate knows. */
async function presentOf(): Promise<readonly string[]> {
  const { processes } = (await cluster.faceplates[0]?.status()) ?? { processes: [] };
  return processes.filter(({ name, state }) => name.startsWith('manager') && state === 'up').map(({ name }) => name);
}

/** Bytes that a manager has fetched since its start. */
async function fetchedBytes(one: ClusterProcess): Promise<number> {
  return sumOf(await one.metrics(), 'katamari_fetch_bytes_total');
}

async function checkSearch(service: AnyService, query: string): Promise<string> {
  const text = textOf((await service['search']?.({ query, count: 5 })) as Found);
  return text === hits.get(query) ? '' : `${query}: ${text}, expected ${hits.get(query)}`;
}

function startCallers(): ClientCallers {
  let next = 0;
  return new ClientCallers({
    addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
    callers: CALLERS,
    service: 'wiki',
    call: (service) => checkSearch(service, QUERIES[next++ % QUERIES.length] as string),
  });
}

async function more(callers: ClientCallers, calls: number): Promise<void> {
  const before = callers.sent;
  await until(`${calls} calls`, () => callers.sent - before >= calls, BUSY_MS);
}

/** Waits until calls of the faceplate reach the manager, which it may find later than Consul. */
async function untilUsed(one: ClusterProcess): Promise<void> {
  const accepted = async (): Promise<number> => (await one.status()).calls.accepted;
  const before = await accepted();
  await until(`${one.name} to be used`, async () => (await accepted()) > before + 5, undefined, ASK_EVERY_MS);
}

function expectAllRight(callers: ClientCallers): void {
  expect([...new Set(callers.failed)]).toEqual([]);
  expect([...new Set(callers.wrong)]).toEqual([]);
}

describe('A manager', () => {
  test(
    'that starts again serves what it had, without a byte fetched',
    async () => {
      const before = await servedOf(cluster, `wiki@${VERSION}`);
      await manager(1).stop();
      await manager(1).restart();
      const isUp = async (): Promise<boolean> =>
        (await manager(1).status()).pools.some(({ id, alive }) => id.startsWith('TextSearch') && alive > 0);
      await until('its content server to be up', isUp);
      const upAt = performance.now();
      await until(
        'it to serve what it had',
        async () => (await servedOf(cluster, `wiki@${VERSION}`))['manager-1'] === before['manager-1'],
      );
      console.log(
        `restarted manager: serves ${before['manager-1']} again ${seconds(performance.now() - upAt)} after its content server is up (promised 2)`,
      );
      expect(await fetchedBytes(manager(1))).toBe(0);
    },
    BUSY_MS,
  );

  test(
    'that joins as the third gets its share, and fetches no more than that and one shard',
    async () => {
      const bytes = await wiki.bytesOf(VERSION);
      const largest = Math.ceil(bytes / SHARDS);
      const startedAt = performance.now();
      await manager(3).restart();
      let places: Readonly<Record<string, number[]>> = {};
      await until(
        () => `three managers with even shares, seen ${JSON.stringify(places)}`,
        async () => {
          places = await wiki.untilReplicas(VERSION, SHARDS, 2);
          // Shards differ in size: the last one stays where it is when its move would turn the difference around.
          return (places['manager-3']?.length ?? 0) >= Math.floor((SHARDS * 2) / 3) - 1;
        },
        120_000,
      );
      const fetched = await fetchedBytes(manager(3));
      const share = (bytes * 2) / 3;
      console.log(
        `third manager: ${places['manager-3']?.length} of ${SHARDS * 2} replicas after ${seconds(performance.now() - startedAt)}, ` +
          `${fetched} bytes fetched, its share is ${Math.round(share)}`,
      );
      expect(fetched).toBeGreaterThan(0);
      expect(fetched).toBeLessThanOrEqual(share + largest);
      // The others give shards up, and fetch none.
      const kept = [places['manager-1'], places['manager-2']].map((own) => own?.length ?? 0);
      expect(Math.max(...kept)).toBeLessThanOrEqual(SHARDS - 1);
    },
    BUSY_MS,
  );
});

describe('Searches', () => {
  test(
    `are right while managers stop, are killed and start`,
    async () => {
      const random = new Random(seed);
      const callers = startCallers();
      const quietP99 = async (): Promise<number> => {
        await wiki.untilReplicas(VERSION, SHARDS, 2);
        await more(callers, 500);
        callers.p99Ms();
        await more(callers, CALLS / 4);
        return callers.p99Ms();
      };
      try {
        const beforeMs = await quietP99();
        const since = callers.sent;
        let changes = 0;
        for (; callers.sent - since < CALLS || changes < 4; changes++) {
          const one = manager(random.between(1, 3));
          await (random.chance(0.5) ? one.stop() : one.kill());
          await more(callers, 200);
          await one.restart();
          await untilUsed(one);
          await wiki.untilComplete(VERSION);
          await more(callers, 200);
        }
        const duringMs = callers.p99Ms();
        const afterMs = await quietP99();
        console.log(
          `${changes} managers stopped or killed: ${callers.line}; p99 ${beforeMs.toFixed(0)} ms before, ${duringMs.toFixed(0)} ms ` +
            `during it, ${afterMs.toFixed(0)} ms after, ratio ${((2 * duringMs) / (beforeMs + afterMs)).toFixed(2)} (promised 1.5)`,
        );
      } finally {
        await callers.stop();
      }
      expectAllRight(callers);
    },
    BUSY_MS,
  );

  test(
    'find the right count after every manager that goes or comes, with three replicas',
    async () => {
      await wiki.replicate(VERSION, 3);
      await wiki.untilReplicas(VERSION, SHARDS, 3);
      const right = async (): Promise<void> => {
        for (const word of WORDS) expect([word, await count(word)]).toEqual([word, counts[word]]);
      };
      const callers = startCallers();
      try {
        await right();
        await manager(1).stop();
        await right();
        await manager(2).stop();
        await right();
        await manager(4).restart();
        await right();
        await until('the fourth manager to hold all', async () => {
          const { serving = {} } = (await holdingsOf(cluster)).get('manager-4') ?? {};
          return serving[`wiki@${VERSION}`] === `0-${SHARDS - 1}`;
        });
        await right();
        await manager(3).stop();
        await right();
        console.log(`three replicas: ${callers.line}`);
      } finally {
        await callers.stop();
      }
      expectAllRight(callers);
    },
    BUSY_MS,
  );
});
