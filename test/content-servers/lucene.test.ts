// The Lucene servers: exact scores for every kind of query however documents are split, indexes of other versions,
// and Katta's own shards. test/contract/content.test.ts has what all content servers must do.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { chassisInterface, contentInterface } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import {
  buildLuceneShards,
  LUCENE_BUILD_MS,
  luceneBuild,
  luceneCommand,
  luceneFileOf,
  type LuceneName,
} from '../kit/tools/lucene.ts';
import { type ManagedChassis, withManagedChassis } from '../kit/tools/managed-chassis.ts';
import { Random } from '../kit/tools/random.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { runKatamari } from '../kit/tools/run.ts';

const seed = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 1_000_000);
const kattaData = process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data');
const alice = path.join(kattaData, 'alice.txt');
const kattaIndex = path.join(kattaData, 'testIndexA');
const TEST_MS = 240_000;

const textContent = parseIdl(readIdlFile(path.join(REPOSITORY, 'idl', 'search.thrift'))).services.get(
  'TextContent',
) as Interface;

interface LuceneHit {
  readonly shard: string;
  readonly document: number;
  readonly score: number;
  readonly fields?: Readonly<Record<string, readonly { readonly text?: string }[]>>;
}
interface LuceneAnswer {
  readonly total: number;
  readonly hits: readonly LuceneHit[];
}
type Sums = Record<string, number>;

const open = (server: ManagedChassis, shard: string, at: string): Promise<unknown> =>
  server.ask(contentInterface(), 'katamari.Content', 'open', { shard, path: at });
const ask = (server: ManagedChassis, name: string, params: Readonly<Record<string, unknown>>): Promise<unknown> =>
  server.ask(textContent, '', name, params);
const keyOf = (hit: LuceneHit): string => hit.fields?.['key']?.[0]?.text ?? '';

function summed(all: readonly Sums[]): Sums {
  const sums: Sums = {};
  for (const one of all) for (const [name, value] of Object.entries(one)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-lucene-'));
  await luceneCommand('lucene');
}, LUCENE_BUILD_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with one document a line. */
function ndjson(name: string, documents: readonly object[]): string {
  const file = path.join(folder, `${name}.ndjson`);
  writeFileSync(file, documents.map((document) => `${JSON.stringify(document)}\n`).join(''));
  return file;
}

/** Builds one shard. */
async function shardOf(engine: LuceneName, name: string, documents: readonly object[]): Promise<string> {
  const shard = path.join(folder, engine, name);
  await buildLuceneShards(engine, [{ ndjson: ndjson(`${engine}-${name}`, documents), shard }]);
  return shard;
}

/** Queries of every kind about a book, from words that follow each other in it. */
function bookQueries(words: readonly string[], random: Random): readonly string[] {
  const at = random.below(words.length - 4);
  const [a = '', b = '', c = ''] = words.slice(at);
  const [other, another] = [random.pick(words), random.pick(words)];
  const edited = `${a.slice(0, -1)}x`;
  return [
    a,
    `${a} ${other}`,
    `${a} AND ${other} AND ${another}`,
    `+${a} +${b} +the ${other} ${another}`,
    `"${a} ${b}"`,
    `"${a} ${c}"~3`,
    `"${a} ${b}" OR ${other}^2.5`,
    `${a} NOT ${other}`,
    `(${a} OR ${other}) AND (the OR ${another}*)`,
    `${a.slice(0, 2)}*`,
    `${a.slice(0, 1)}?${a.slice(2)} OR ${other}`,
    `${edited}~0.6`,
    `${edited}~ AND ${b}`,
    `body:[${a.slice(0, 3)} TO ${a.slice(0, 3)}zz] OR ${b}`,
    `title:${a}^3 OR body:(${b} ${other})`,
  ];
}

describe.each(['lucene', 'lucene3'] as const)('The server %s', (engine) => {
  test.skipIf(!existsSync(alice))(
    'scores alike, to the bit, in 1 to 9 shards, for every kind of query (skipped without KATTA_DATA)',
    async () => {
      console.log(`${engine}: KATAMARI_SEED=${seed}`);
      const random = new Random(seed);
      const documents = readFileSync(alice, 'latin1')
        .split(/\r?\n\s*\r?\n/)
        .filter((text) => text.trim() !== '')
        .map((body, i) => ({ key: `k${i}`, title: body.trim().split(/\s+/).slice(0, 4).join(' '), body }));
      const words = documents.flatMap(({ body }) => body.toLowerCase().match(/[a-z]{4,}/g) ?? []);
      const sets = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((count) => {
        const split = Array.from({ length: count }, (): object[] => []);
        for (const document of documents) split[random.below(count)]?.push(document);
        return split.map((part, i) => {
          const name = `s${count}@1.0.0/part-${i}`;
          return { ndjson: ndjson(`${engine}-${count}-${i}`, part), shard: path.join(folder, engine, name), name };
        });
      });
      await buildLuceneShards(engine, sets.flat());
      await withManagedChassis(await luceneCommand(engine), {}, async (server) => {
        for (const { name, shard } of sets.flat()) expect(await open(server, name, shard)).toHaveProperty('entries');
        const [whole = []] = sets;
        let compared = 0;
        while (compared < 105) {
          for (const query of bookQueries(words, random)) {
            const params = { query, count: 10_000, fields: ['key'] };
            const expected = (await ask(server, 'search', {
              ...params,
              shards: whole.map(({ name }) => name),
            })) as LuceneAnswer;
            const set = sets[1 + (compared++ % (sets.length - 1))] ?? [];
            const each = set.map(({ name }) => [name]);
            const statistics = summed(
              (await Promise.all(each.map((shards) => ask(server, 'statistics', { shards, query })))) as Sums[],
            );
            const answers = (await Promise.all(
              each.map((shards) => ask(server, 'search', { ...params, shards, statistics })),
            )) as LuceneAnswer[];
            const found = answers.flatMap(({ hits }) => hits);
            expect(expected, query).toHaveProperty('total');
            expect(
              answers.reduce((sum, { total }) => sum + total, 0),
              query,
            ).toBe(expected.total);
            const scores = (hits: readonly LuceneHit[]) => hits.map((hit) => `${keyOf(hit)} ${hit.score}`).sort();
            expect(scores(found), `${query} in ${set.length} shards`).toEqual(scores(expected.hits));
          }
        }
      });
    },
    TEST_MS,
  );

  test(
    'refuses an index of the other version, and names the server that reads it',
    async () => {
      const other = engine === 'lucene' ? 'lucene3' : 'lucene';
      const shard = await shardOf(other, `for-${engine}`, [{ key: 'k' }]);
      await withManagedChassis(await luceneCommand(engine), {}, async (server) => {
        const refused = (await open(server, 'i@1.0.0/a', shard)) as Readonly<Record<string, unknown>>;
        expect(refused).toMatchObject({ exception: 'ShardRefused', isDamaged: false });
        expect(refused['why']).toMatch(
          engine === 'lucene'
            ? /Lucene 3 or older wrote this index, and this server is Lucene 8\.\S+, which reads .*serve it with Lucene3/
            : /Lucene 4 or later wrote this index, and this server is Lucene 3\.6\.\S+, which reads .*serve it with Lucene/,
        );
      });
    },
    TEST_MS,
  );

  test(
    'sorts with limited memory: forgets old columns, and refuses one that is too large',
    async () => {
      const pad = 'x'.repeat(60);
      const documents = Array.from({ length: 10_000 }, (_, at) => ({ body: 'ka', low: at, high: -at, long: pad + at }));
      const shard = await shardOf(engine, 'columns', documents);
      await withManagedChassis(await luceneCommand(engine), { KATAMARI_LUCENE_SORT_MIB: '1' }, async (server) => {
        await open(server, 'i@1.0.0/a', shard);
        const by = (field: string): Promise<unknown> =>
          ask(server, 'search', { query: 'body:ka', count: 1, sort: [{ field }], filter: '', after: '' });
        // Each takes more than half of the memory.
        for (const field of ['low', 'high', 'low']) {
          const hits = ((await by(field)) as LuceneAnswer & { hits: { sortValues: unknown }[] }).hits;
          expect(hits[0]?.sortValues).toEqual([{ whole: field === 'low' ? 0 : -9_999 }]);
        }
        expect(await by('long')).toMatchObject({
          exception: 'BadQuery',
          why: expect.stringMatching(/by the field "long" takes more memory than the 1 MiB .*KATAMARI_LUCENE_SORT_MIB/),
        });
        expect(((await by('low')) as LuceneAnswer).total).toBe(10_000);
      });
    },
    TEST_MS,
  );

  test(
    'tells facts, and takes the default field and the analyzer from the environment',
    async () => {
      const documents = [
        { key: 'k1', body: 'White Rabbit', tag: 'Zebra' },
        { key: 'k2', body: 'the Hatter' },
      ];
      const shard = await shardOf(engine, 'facts', documents);
      const count = async (server: ManagedChassis, query: string): Promise<unknown> => ask(server, 'count', { query });
      await withManagedChassis(await luceneCommand(engine), {}, async (server) => {
        expect(await open(server, 'i@1.0.0/a', shard)).toMatchObject({
          entries: 2,
          more: { field: 'text', fields: 'body, key, tag, text', segments: '1', deleted: '0' },
        });
        // Words without a field are searched in all text, and the analyzer drops no words.
        expect(await count(server, 'zebra')).toBe(1);
        expect(await count(server, 'the')).toBe(1);
        expect(await count(server, 'body:zebra')).toBe(0);
        // A phrase does not go on in the next field.
        expect(await count(server, '"rabbit zebra"')).toBe(0);
      });
      const env = {
        KATAMARI_LUCENE_FIELD: 'body',
        KATAMARI_LUCENE_ANALYZER:
          engine === 'lucene'
            ? 'org.apache.lucene.analysis.core.WhitespaceAnalyzer'
            : 'org.apache.lucene.analysis.WhitespaceAnalyzer',
      };
      await withManagedChassis(await luceneCommand(engine), env, async (server) => {
        expect(await open(server, 'i@1.0.0/a', shard)).toMatchObject({ more: { field: 'body' } });
        expect(await count(server, 'zebra')).toBe(0);
        expect([await count(server, 'rabbit'), await count(server, 'Rabbit')]).toEqual([1, 0]);
        const bad = (await ask(server, 'count', { query: 'rabbit AND' })) as object;
        expect(bad).toMatchObject({ exception: 'BadQuery', at: 10 });
      });
    },
    TEST_MS,
  );

  test(
    'refuses queries that match too many terms where each term counts, and counts them where none does',
    async () => {
      const documents = Array.from({ length: 1_100 }, (_, i) => ({ key: `k${i}`, body: `word${i}` }));
      const shard = await shardOf(engine, 'many-terms', documents);
      await withManagedChassis(await luceneCommand(engine), {}, async (server) => {
        await open(server, 'i@1.0.0/a', shard);
        const refused = await ask(server, 'search', { query: 'body:word*' });
        expect(refused).toMatchObject({ exception: 'BadQuery', at: -1 });
        expect((refused as { why: string }).why).toContain('1024 terms or more');
        expect(await ask(server, 'count', { query: 'body:word*' })).toBe(1_100);
        const { total } = (await ask(server, 'search', { query: 'body:word7', filter: 'body:word*' })) as LuceneAnswer;
        expect(total).toBe(1);
      });
    },
    TEST_MS,
  );

  test(
    'builds shards from NDJSON, and says what is wrong with a line',
    async () => {
      const out = path.join(folder, engine, 'built');
      const documents = Array.from({ length: 7 }, (_, i) => ({ key: `k${i}`, n: i, real: 0.5, yes: true, no: null }));
      const file = ndjson(`${engine}-seven`, documents);
      expect(await luceneBuild(engine, [file, '--out', out, '--shards', '3'])).toBe(
        `7 documents in 3 shards below ${out}`,
      );
      await withManagedChassis(await luceneCommand(engine), {}, async (server) => {
        const entries: unknown[] = [];
        for (const i of [0, 1, 2]) entries.push(await open(server, `i@1.0.0/${i}`, path.join(out, `part-0000${i}`)));
        expect(entries.map((facts) => (facts as { entries: number }).entries)).toEqual([3, 2, 2]);
        const { hits } = (await ask(server, 'search', { query: 'k4', fields: ['*'] })) as LuceneAnswer;
        expect(hits).toMatchObject([
          {
            shard: 'i@1.0.0/1',
            document: 1,
            fields: { key: [{ text: 'k4' }], n: [{ whole: 4 }], yes: [{ whole: 1 }] },
          },
        ]);
        expect(Object.keys(hits[0]?.fields ?? {}).sort()).toEqual(['key', 'n', 'real', 'yes']);
      });
      const failure = (args: readonly string[]): Promise<string> =>
        luceneBuild(engine, args).then(
          () => 'it built them',
          (error: unknown) => (error as { stderr: string }).stderr.trim(),
        );
      expect(await failure([file, '--out', out])).toContain('part-00000 exists already');
      const wrong = path.join(folder, `${engine}-wrong.ndjson`);
      writeFileSync(wrong, '{"key": "a"}\n{"key": [1]}\n');
      expect(await failure([wrong, '--out', path.join(folder, engine, 'wrong')])).toBe(
        `${wrong}:2: found "[1]}" at column 9, expected text, a number, true, false, null or {"$binary": base64}`,
      );
      expect(existsSync(path.join(folder, engine, 'wrong', 'part-00000'))).toBe(false);
    },
    TEST_MS,
  );

  test(
    'conforms, with a good and a damaged shard',
    async () => {
      const good = await shardOf(engine, 'good', [{ key: 'k1', body: 'tea for two' }]);
      const damaged = await shardOf(engine, 'damaged', [{ key: 'k1', body: 'tea for two' }]);
      writeFileSync(luceneFileOf(damaged), Buffer.alloc(100, 'x'), { flag: 'r+' });
      const shards = ['--content', good, '--damaged', damaged];
      const { code, stdout, stderr } = await runKatamari([
        'conform',
        ...shards,
        '--',
        ...(await luceneCommand(engine)),
      ]);
      expect([code, / conforms: /.test(stdout) || stdout + stderr]).toEqual([0, true]);
    },
    TEST_MS,
  );
});

describe("Katta's test index", () => {
  test.skipIf(!existsSync(kattaIndex))(
    'is served by lucene3 as it is (skipped without KATTA_DATA)',
    async () => {
      await withManagedChassis(await luceneCommand('lucene3'), {}, async (server) => {
        expect(await server.ask(chassisInterface(), 'katamari.Chassis', 'describe')).toMatchObject({
          serviceName: 'Lucene3',
          holdsShards: true,
        });
        const entries: number[] = [];
        for (const name of ['aIndex', 'bIndex', 'cIndex', 'dIndex']) {
          const facts = await open(server, `katta@1.0.0/${name}`, path.join(kattaIndex, name));
          entries.push((facts as { entries: number }).entries);
        }
        expect(entries.at(-1)).toBe(998);
        expect(await ask(server, 'count', { query: 'content:the' })).toBe(937);
        expect(await ask(server, 'count', { query: 'the' })).toBe(937);
        const found = (await ask(server, 'search', {
          query: 'content:the',
          fields: ['path', 'category'],
        })) as LuceneAnswer;
        expect([found.total, found.hits.length]).toEqual([937, 10]);
        for (const { shard, fields } of found.hits) {
          expect(shard).toBe('katta@1.0.0/dIndex');
          expect(Object.keys(fields ?? {}).sort()).toEqual(['category', 'path']);
        }
      });
    },
    TEST_MS,
  );
});
