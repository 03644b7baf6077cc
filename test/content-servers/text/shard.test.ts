// Shards: which files are opened, which are refused, and what is found in them.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { LRUCache } from 'lru-cache';
import { afterAll, describe, expect, test } from 'vitest';
import { DamagedShard } from '../../../chassis-sdk/typescript/mod.ts';
import { Analyzers } from '../../../content-servers/text/analyzer.ts';
import { buildShards } from '../../../content-servers/text/mod.ts';
import { openTextShard } from '../../../content-servers/text/open-shard.ts';
import { parseQuery } from '../../../content-servers/text/query.ts';
import { planQuery } from '../../../content-servers/text/plan.ts';
import {
  matchesOf,
  type SearchAnswer,
  type SearchRequest,
  searchShards,
} from '../../../content-servers/text/search.ts';
import { SoftEnd } from '../../../content-servers/text/soft-end.ts';
import { createSqlFile } from '../../../content-servers/text/sqlite.ts';
import { Corpus } from '../../kit/content/corpus.ts';
import { Random } from '../../kit/tools/random.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-shards-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;

const pool = { analyzers: new Analyzers(), cache: new LRUCache<string, object>({ maxSize: 10_000_000 }) };
const open = (at: string) => openTextShard(at, pool);
const META = "CREATE TABLE meta(key, value); INSERT INTO meta VALUES('format', 'katamari-text'), ('version', '1');";
const DOCUMENTS = 'CREATE TABLE documents(_id INTEGER PRIMARY KEY, body);';
const INDEX = "CREATE VIRTUAL TABLE t USING fts5(body, content = 'documents', content_rowid = '_id');";
const FILL = "INSERT INTO t(t) VALUES('rebuild');";

/** A file made with SQL. */
function sqlFile(sql: string): string {
  const file = path.join(folder, `shard-${++made}`);
  const database = createSqlFile(file);
  database.exec(sql);
  database.close();
  return file;
}

function search(
  shards: SearchRequest & { readonly open: Parameters<typeof searchShards>[0] },
  end = new SoftEnd(60_000),
): SearchAnswer {
  return searchShards(shards.open, shards, end);
}
const request = (query: string): SearchRequest => ({
  query: parseQuery(query),
  count: 10,
  sort: [],
  after: undefined,
  fields: [],
  statistics: undefined,
});

describe('openTextShard()', () => {
  test('opens what the Python program in docs/text-search.md makes', async () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs/text-search.md'), 'utf8');
    const program = /```python\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const file = path.join(folder, 'python');
    expect(spawnSync('python3', ['-c', program, file], { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
    const shard = await open(file);
    expect(shard.schema).toEqual({
      tokenizer: 'porter unicode61',
      indexed: ['title', 'body'],
      stored: ['title', 'body', 'year'],
      notes: { 'made-by': 'a script' },
    });
    const { hits, total } = search({
      ...request('hunt title:snark'),
      fields: ['year'],
      open: new Map([['i@1/a', shard]]),
    });
    expect([total, hits.map((hit) => [hit.document, hit.fields?.get('year')])]).toEqual([1, [[2, [{ whole: 1876 }]]]]);
    shard.close();
  });

  test('reads a file in a folder of its own, read-only, whatever journals are beside it', async () => {
    const at = path.join(folder, 'alone');
    mkdirSync(at);
    const file = path.join(at, 'index.sqlite');
    copyFileSync(sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES(7, 'rabbit');${INDEX}${FILL}`), file);
    for (const rest of ['-wal', '-journal', '-shm']) writeFileSync(`${file}${rest}`, Buffer.alloc(4_096, 7));
    const before = readdirSync(at);
    chmodSync(file, 0o400);
    chmodSync(at, 0o500);
    const shards = await Promise.all([open(at), open(file), open(at)]);
    for (const shard of shards)
      expect(search({ ...request('rabbit'), open: new Map([['s', shard]]) }).hits[0]?.document).toBe(7);
    expect(readdirSync(at)).toEqual(before);
    for (const shard of shards) shard.close();
    expect(readdirSync(at)).toEqual(before);
    chmodSync(at, 0o700);
  });

  test('reads a file that was last written with a write-ahead log', async () => {
    const file = sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES(1, 'rabbit');${INDEX}${FILL}`);
    const script =
      'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute("PRAGMA journal_mode = WAL"); c.close()';
    expect(spawnSync('python3', ['-c', script, file], { encoding: 'utf8' }).stderr).toBe('');
    const shard = await open(file);
    expect(shard.postings('rabbit', undefined).places.length).toBe(1);
    shard.close();
  });

  test('takes ids with gaps, also negative ones', async () => {
    const ids = [-5, 0, 3, 1_000, 2 ** 53 - 1];
    const rows = ids.map((id, i) => `(${id}, '${'rabbit '.repeat(i + 1)}')`).join(', ');
    const shard = await open(sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES ${rows};${INDEX}${FILL}`));
    expect([...shard.ids]).toEqual(ids);
    expect([...shard.lengths]).toEqual([1, 2, 3, 4, 5]);
    expect(ids.map((id) => shard.placeOf(id))).toEqual([0, 1, 2, 3, 4]);
    expect([-6, 1, 999, 2 ** 52].map((id) => shard.placeOf(id))).toEqual([-1, -1, -1, -1]);
    const { hits } = search({
      ...request('rabbit'),
      sort: [{ field: '_document', descending: true }],
      open: new Map([['s', shard]]),
    });
    expect(hits.map(({ document }) => document)).toEqual(ids.toReversed());
    shard.close();
  });

  test('counts the words of documents that are longer than 127 words, in several fields', async () => {
    const sql = `${META}CREATE TABLE documents(_id INTEGER PRIMARY KEY, a, b);
      INSERT INTO documents VALUES(1, '${'x '.repeat(300)}', '${'y '.repeat(20_000)}'), (2, NULL, 'y');
      CREATE VIRTUAL TABLE t USING fts5(a, b, content = 'documents', content_rowid = '_id');${FILL}`;
    const shard = await open(sqlFile(sql));
    expect([...shard.lengths]).toEqual([20_300, 1]);
    shard.close();
  });

  test.each([
    ['', /^its table "meta" is missing; it has no table, expected meta, documents and the FTS5 table t/],
    ['CREATE TABLE a(x); CREATE VIEW t AS SELECT 1;', /^its table "meta" is missing; it has a, t, expected/],
    [`${META}CREATE VIEW documents AS SELECT 1 AS _id;${INDEX}`, /^its table "documents" is a view/],
    [
      `${META.replace("'1'", "'9'")}${DOCUMENTS}${INDEX}`,
      /version "9"; this server reads format "katamari-text", version "1"/,
    ],
    [`CREATE TABLE meta(a);${DOCUMENTS}${INDEX}`, /^its table meta has no columns key and value/],
    [`CREATE TABLE meta(key, value);${DOCUMENTS}${INDEX}`, /format nothing, version nothing/],
    [`${META}CREATE TABLE documents(id INTEGER PRIMARY KEY, body);${INDEX}`, /no column "_id INTEGER PRIMARY KEY"/],
    [
      `${META}${DOCUMENTS}CREATE VIRTUAL TABLE t USING fts5(body, tokenize = 'trigram');`,
      /^its tokenizer is "trigram"/,
    ],
    [`${META}${DOCUMENTS}CREATE VIRTUAL TABLE t USING fts5(body, detail = none);`, /^its table t has detail = none/],
    [
      `${META}${DOCUMENTS}CREATE VIRTUAL TABLE t USING fts5(body, columnsize = 0);`,
      /^its table "t_docsize" is missing/,
    ],
    [`${META}${DOCUMENTS}CREATE TABLE t(body); CREATE TABLE t_docsize(id, sz);`, /^its table t is not of FTS5/],
    [
      `${META}${DOCUMENTS}${INDEX}INSERT INTO documents VALUES(1, 'a');`,
      /index has documents null to null, .* 1 to 1; fill/,
    ],
    [`${META}${DOCUMENTS}INSERT INTO documents VALUES(9007199254740993, 'a');${INDEX}${FILL}`, /expected ids from/],
  ])('refuses the tables of %j', async (sql, message) => {
    const file = sqlFile(sql === '' ? 'CREATE TABLE x(x); DROP TABLE x' : sql);
    const refusal = await open(file).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ message: expect.stringMatching(message) as string });
    expect(refusal).not.toBeInstanceOf(DamagedShard);
  });

  test('refuses damaged files as damaged', async () => {
    const rows = Array.from({ length: 500 }, (_, i) => `(${i}, 'rabbit ${i}')`).join(', ');
    const good = sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES ${rows};${INDEX}${FILL}`);
    const damaged = (damage: (file: string) => void): Promise<unknown> => {
      const file = path.join(folder, `damaged-${++made}`);
      copyFileSync(good, file);
      damage(file);
      return open(file).catch((error: unknown) => error);
    };
    const size = readFileSync(good).length;
    for (const [damage, message] of [
      [
        (file: string) => truncateSync(file, size - 4_096),
        `the file has ${size - 4_096} bytes, its header says ${size}`,
      ],
      [(file: string) => truncateSync(file, 50), 'the file has 50 bytes'],
      [(file: string) => writeFileSync(file, 'x'.repeat(4_096)), 'the file begins with "xxxxxxxxxxxxxxxx"'],
      [
        (file: string) =>
          writeFileSync(file, Buffer.concat([readFileSync(file).subarray(0, 100), Buffer.alloc(size - 100)])),
        'SQLite says: ',
      ],
    ] as const) {
      const refusal = await damaged(damage);
      expect(refusal).toBeInstanceOf(DamagedShard);
      expect((refusal as Error).message).toContain(message);
    }
  });

  test('refuses folders without exactly one file', async () => {
    const at = path.join(folder, 'two');
    mkdirSync(at);
    await expect(open(at)).rejects.toThrow('the folder has no file; expected one SQLite file');
    writeFileSync(path.join(at, 'a'), '');
    writeFileSync(path.join(at, 'b'), '');
    await expect(open(at)).rejects.toThrow('the folder has 2 files: a, b; expected one');
    await expect(open(path.join(folder, 'nowhere'))).rejects.toThrow('ENOENT');
  });
});

describe('matchesOf()', () => {
  test('finds with sets of documents what FTS5 finds', async () => {
    const random = new Random(Date.now());
    const corpus = new Corpus(random);
    const file = path.join(folder, 'corpus.ndjson');
    writeFileSync(
      file,
      corpus
        .documents(800)
        .map((document) => `${JSON.stringify(document)}\n`)
        .join(''),
    );
    const output = path.join(folder, 'corpus');
    await buildShards({ inputs: [file], output, shards: 1 });
    const shard = await open(path.join(output, 'part-00000'));
    const part = (depth: number): string => {
      const word = `${random.pick(['', '', '', 'title:', 'body:'])}${corpus.word()}`;
      if (depth === 0 || random.chance(0.3)) return word;
      const parts = Array.from({ length: random.between(1, 4) }, () => part(depth - 1));
      const joined = parts.join(random.pick([' ', ' OR ', ' AND ']));
      return `(${joined}${random.chance(0.4) ? ` NOT ${part(depth - 1)}` : ''})`;
    };
    let sets = 0;
    for (let i = 0; i < 400; i++) {
      const [query, filter] = [part(3), random.chance(0.3) ? part(1) : undefined];
      const trees = { query: parseQuery(query), filter: filter === undefined ? undefined : parseQuery(filter) };
      const plan = planQuery(trees, shard.analyzer, shard.schema.indexed);
      const end = new SoftEnd(60_000);
      const expected = shard.matches(plan.expression, end);
      expect([...matchesOf(shard, plan, end).places], `seed ${random.seed}: ${query}`).toEqual([...expected.places]);
      sets += plan.sets === undefined ? 0 : expected.places.length;
    }
    expect(sets).toBeGreaterThan(1_000);
    shard.close();
  });
});

describe('searchShards()', () => {
  test('stops when 90 % of the time is used, with whole scores and the shards that it cut', async () => {
    const file = path.join(folder, 'many.ndjson');
    writeFileSync(
      file,
      Array.from({ length: 40_000 }, (_, i) => `{"body":"rabbit hole ${i % 7}","n":${i}}\n`).join(''),
    );
    const output = path.join(folder, 'many');
    await buildShards({ inputs: [file], output, shards: 2 });
    const names = ['a', 'b'] as const;
    const fresh = async () =>
      new Map(
        await Promise.all(
          names.map(async (name, i) => [name, await open(path.join(output, `part-0000${i}`))] as const),
        ),
      );
    const shards = await fresh();
    const whole = search({ ...request('rabbit 3'), count: 10_000, open: shards });
    expect(whole.coverage).toEqual({ shards: 2, complete: 2, missing: [], retried: 0, hedged: 0 });
    const scores = new Map(whole.hits.map(({ shard, document, score }) => [`${shard} ${document}`, score]));
    for (const shard of shards.values()) shard.close();
    const seen = new Set<number>();
    for (let looks = 0; looks < 30; looks++) {
      // The time is up at the n-th look at the clock, for every n.
      let nowMs = 0;
      const end = new SoftEnd(looks, () => nowMs++);
      const open = await fresh();
      for (const sort of [[], [{ field: 'n', descending: true }]]) {
        const { total, hits, coverage } = search({ ...request('rabbit 3'), sort, count: 10_000, open }, end);
        const { complete, missing } = coverage;
        seen.add(complete);
        expect(complete + missing.length).toBe(2);
        expect(hits.length).toBe(total);
        if (complete === 2) expect(total).toBe(whole.total);
        const wrong = hits.filter(({ shard, document, score }) => {
          const whole = scores.get(`${shard} ${document}`);
          return whole === undefined || (sort.length === 0 && whole !== score);
        });
        expect(wrong).toEqual([]);
        for (const { why, lack } of missing) {
          expect(lack).toBe(5);
          expect(why).toMatch(
            /^\d+ ms, 90 % of the time of this call, were used; \d+ of 20000 documents were looked at$/,
          );
        }
      }
      for (const shard of open.values()) shard.close();
    }
    expect([...seen].sort()).toEqual([0, 1, 2]);
  });

  test('finds and scores the same with and without a list of the documents that match', async () => {
    const random = new Random(4_711);
    const words = ['rabbit', 'hole', 'queen', 'hat', 'tea'];
    const file = path.join(folder, 'any.ndjson');
    const bodies = Array.from({ length: 500 }, () =>
      Array.from({ length: random.between(1, 6) }, () => random.pick(words)).join(' '),
    );
    writeFileSync(file, bodies.map((body) => `${JSON.stringify({ body, kind: 'any' })}\n`).join(''));
    const output = path.join(folder, 'any');
    await buildShards({ inputs: [file], output, shards: 1 });
    const shards = new Map([['s', await open(path.join(output, 'part-00000'))]]);
    for (const query of ['tea', 'absent', 'tea OR hat', 'tea OR tea OR (queen OR absent)', words.join(' OR ')]) {
      for (const count of [0, 1, 10, 1_000]) {
        const asked = { ...request(query), count, open: shards };
        const listed = search({ ...asked, filter: parseQuery('kind:any') });
        expect(search(asked), query).toEqual(listed);
        const after = listed.hits.at(-1);
        if (after === undefined) continue;
        const { document, score } = after;
        const next = { ...asked, after: { shard: 's', document, score, values: [] } };
        expect(search(next), query).toEqual(search({ ...next, filter: parseQuery('kind:any') }));
      }
    }
    for (const shard of shards.values()) shard.close();
  });

  test('gives finite scores, whatever statistics the caller sends', async () => {
    const shard = await open(sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES(1, 'rabbit');${INDEX}${FILL}`));
    for (const [docs, tokens, df] of [
      [0, 0, 0],
      [-5, -5, -5],
      [1, 2 ** 63, 2 ** 63],
      [2 ** 63, 1, 1],
    ] as const) {
      const statistics = new Map(Object.entries({ docs, tokens, 'df:rabbit': df }));
      const { hits } = search({ ...request('rabbit'), statistics, open: new Map([['s', shard]]) });
      expect(hits.length).toBe(1);
      expect(hits[0]?.score).toBeGreaterThanOrEqual(0);
      expect(Number.isFinite(hits[0]?.score)).toBe(true);
    }
    shard.close();
  });

  test('refuses to score a prefix of too many words, and finds its documents all the same', async () => {
    const words = Array.from({ length: 1_025 }, (_, i) => `w${i}`);
    const rows = `(1, '${words.slice(0, 1_000).join(' ')}'), (2, '${words.slice(1_000).join(' ')}')`;
    const shard = await open(sqlFile(`${META}${DOCUMENTS}INSERT INTO documents VALUES ${rows};${INDEX}${FILL}`));
    const shards = new Map([['s', shard]]);
    expect(() => search({ ...request('w*'), open: shards })).toThrow('"w*" stands for too many words to score');
    expect(search({ ...request('w*'), sort: [{ field: '_document', descending: false }], open: shards }).total).toBe(2);
    expect(search({ ...request('w1'), filter: parseQuery('w*'), open: shards }).total).toBe(1);
    expect(search({ ...request('w10*'), open: shards })).toMatchObject({ total: 2 });
    shard.close();
  });

  test('goes on with a field that it could not read to its end', async () => {
    const file = path.join(folder, 'field.ndjson');
    writeFileSync(file, Array.from({ length: 40_000 }, (_, i) => `{"body":"x","n":${i}}\n`).join(''));
    const output = path.join(folder, 'field');
    await buildShards({ inputs: [file], output, shards: 1 });
    const shard = await open(path.join(output, 'part-00000'));
    let calls = 0;
    for (let isRead = false; !isRead; calls++) {
      let nowMs = 0;
      isRead = shard.column('n', new SoftEnd(3, () => nowMs++)) !== undefined;
      expect(calls).toBeLessThan(4);
    }
    expect(calls).toBe(2);
    expect(shard.column('n', new SoftEnd(0))?.values.slice(0, 3)).toEqual([0, 1, 2]);
    shard.close();
  });
});
