// Versions of an index change while clients call it without pause: they are added, get a share of the calls, get all of
// them, and are removed. No call fails, and each is answered by a version that may answer it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, type AnyService, type Mesh } from '../../../client/mod.ts';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexOperator } from '../../kit/cluster/index-operator.ts';
import { buildText, TEXT_SEARCH } from '../../kit/cluster/text-index.ts';
import { untilSpread } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { Random } from '../../kit/tools/random.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 600_000;
const SHARDS = 4;
const CALLERS = 9;
const CALLS = sized(100_000, 8_000);
/** Every source is left and comes back. */
const MIN_CHANGES = 4;
const WORD = 'rabbit';
const SOURCES = ['one', 'two', 'three'] as const;
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);
let wiki: IndexOperator;
let mesh: Mesh;
/** The index, through one faceplate. */
let index: AnyService;
/** Documents with the word, by source; all different. */
const counts: number[] = [];

beforeAll(async () => {
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-versions-'));
  for (const [at, source] of SOURCES.entries()) {
    const words = await buildText(path.join(folder, source), random, { documents: 300 * (at + 1), shards: SHARDS });
    counts.push(words[WORD] as number);
  }
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 2,
    faceplates: 2,
    settings: { timeout: '4s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [TEXT_SEARCH],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1 });
  wiki = new IndexOperator(cluster, 'wiki');
  await add(0);
  mesh = connect({ addresses: cluster.doors.map(({ host, thriftPort }) => `${host}:${thriftPort}`) });
  index = mesh.service('wiki', { i64: 'number' });
  for (const faceplate of cluster.faceplates) await untilAnswers(faceplate.addresses.thrift, 0);
}, BUSY_MS);
afterAll(async () => {
  mesh?.close();
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

/** Version number `at`, of the sources in turn. */
const versionOf = (at: number): string => `1.0.${at}`;
const countOf = (at: number): number => counts[at % SOURCES.length] as number;

/** Adds a version and waits until it is whole. */
async function add(at: number): Promise<void> {
  const added = {
    source: pathToFileURL(path.join(folder, SOURCES[at % SOURCES.length] as string)).href,
    contentService: 'TextSearch',
    replicas: 2,
    promoteAtReplicas: at === 0 ? 1 : 0,
  };
  if (at === 0) await wiki.untilAddable(versionOf(at), added);
  await wiki.add(versionOf(at), added);
  await wiki.untilReplicas(versionOf(at), SHARDS, 2);
}

/** Waits until calls through a faceplate without a version are answered by version number `at`. */
async function untilAnswers(address: string, at: number): Promise<void> {
  const own = connect({ addresses: address });
  try {
    const service = own.service('wiki', { i64: 'number' });
    await until(
      `version ${at}`,
      async () => (await service['count']?.({ query: WORD }).catch(() => -1)) === countOf(at),
    );
  } finally {
    own.close();
  }
}

async function count(options: { readonly key?: string } = {}): Promise<number> {
  return (await index['count']?.({ query: WORD }, options)) as number;
}

describe('Two versions of an index', () => {
  test(
    'share any 1,000 calls exactly as they should, and a caller with a key stays where it is',
    async () => {
      await add(1);
      await wiki.split({ [versionOf(0)]: 90, [versionOf(1)]: 10 });
      await until('the second version to get calls', async () => (await count()) === countOf(1));
      const isSecond: boolean[] = [];
      for (let calls = 0; calls < sized(10_000, 2_000); calls++) isSecond.push((await count()) === countOf(1));
      const shares = isSecond.slice(999).map((_, at) => isSecond.slice(at, at + 1_000).filter(Boolean).length);
      console.log(`90/10: ${Math.min(...shares)} to ${Math.max(...shares)} of any 1,000 calls`);
      expect(Math.min(...shares)).toBeGreaterThanOrEqual(98);
      expect(Math.max(...shares)).toBeLessThanOrEqual(102);

      const keys = Array.from({ length: 100 }, (_, at) => `caller-${at}`);
      const placed = await Promise.all(keys.map((key) => count({ key })));
      expect(new Set(placed)).toEqual(new Set([countOf(0), countOf(1)]));
      for (let rounds = 0; rounds < sized(20, 4); rounds++)
        expect(await Promise.all(keys.map((key) => count({ key })))).toEqual(placed);
      // Those that the second version has stay there when it gets more.
      await wiki.split({ [versionOf(0)]: 60, [versionOf(1)]: 40 });
      let moved: number[] = [];
      await until('more of them to be there', async () => {
        moved = await Promise.all(keys.map((key) => count({ key })));
        return moved.filter((one) => one === countOf(1)).length > placed.filter((one) => one === countOf(1)).length;
      });
      placed.forEach((one, at) => one === countOf(1) && expect(moved[at]).toBe(one));
      await wiki.promote(versionOf(0));
      for (const faceplate of cluster.faceplates) await untilAnswers(faceplate.addresses.thrift, 0);
      await wiki.remove(versionOf(1));
    },
    BUSY_MS,
  );

  test(
    'change places under load: no call fails, and documents of earlier hits are found',
    async () => {
      /** Numbers of the versions that may answer now. */
      const mayAnswer = new Set([0]);
      let changes = 0;
      const callers = new ClientCallers({
        addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
        callers: CALLERS,
        service: 'wiki',
        call: async (service, caller) => {
          const before = [...mayAnswer];
          if (caller % 3 !== 0) {
            const found = (await service['count']?.({ query: WORD })) as number;
            const right = [...before, ...mayAnswer].map(countOf);
            return right.includes(found) ? '' : `${found} documents, expected one of ${right.join(', ')}`;
          }
          const found = (await service['search']?.({ query: WORD, count: 3 })) as Found;
          const ids = found.hits.map(({ shard, document }) => ({ shard, document }));
          const documents = (await service['documents']?.({ ids, fields: ['text'] })) as readonly unknown[];
          return documents.length === 3 ? '' : `${documents.length} of 3 documents found`;
        },
      });
      try {
        for (; callers.sent < CALLS || changes < MIN_CHANGES; changes++) {
          if (callers.failed.length + callers.wrong.length > 0) break;
          const at = changes + 1;
          const earlier = (await index['search']?.({ query: WORD, count: 2 })) as Found;
          await add(at);
          mayAnswer.add(at);
          await wiki.split({ [versionOf(at - 1)]: 90, [versionOf(at)]: 10 });
          await more(callers, CALLS / 40);
          await wiki.promote(versionOf(at));
          for (const faceplate of cluster.faceplates) await untilAnswers(faceplate.addresses.thrift, at);
          const ids = earlier.hits.map(({ shard, document }) => ({ shard, document }));
          expect(earlier.hits[0]?.shard).toContain(versionOf(at - 1));
          expect(await index['documents']?.({ ids })).toHaveLength(2);
          await more(callers, CALLS / 40);
          mayAnswer.delete(at - 1);
          await wiki.remove(versionOf(at - 1));
          await more(callers, CALLS / 40);
        }
      } finally {
        await callers.stop();
      }
      console.log(`${changes} promotes and removes: ${callers.line}`);
      expect([...new Set(callers.failed)]).toEqual([]);
      expect([...new Set(callers.wrong)]).toEqual([]);
      expect(changes).toBeGreaterThanOrEqual(MIN_CHANGES);
    },
    BUSY_MS,
  );
});

interface Found {
  readonly hits: readonly { readonly shard: string; readonly document: number }[];
}

/** Waits for so many more calls. */
async function more(callers: ClientCallers, calls: number): Promise<void> {
  const before = callers.sent;
  await until(`${calls} calls`, () => callers.sent - before >= calls, BUSY_MS);
}
