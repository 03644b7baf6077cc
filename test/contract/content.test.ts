// The exam for content servers: what the mesh and callers may expect of every engine behind idl/content.thrift and
// idl/search.thrift. test/kit/content/engines.ts lists the engines.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { assert as holds, asyncProperty, infiniteStream, integer, nat, record } from 'fast-check';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { compareHits, merge } from '../kit/content/merge.ts';
import {
  ContentServerProcess,
  type SearchParams,
  type SeenAnswer,
  type SeenHit,
} from '../kit/content/content-server.ts';
import { Corpus, type CorpusDocument } from '../kit/content/corpus.ts';
import { CONTENT_ENGINES, type ContentEngine } from '../kit/content/engines.ts';
import { Random } from '../kit/tools/random.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';

const seed = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 1_000_000);
const kattaData = process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data');
const alice = path.join(kattaData, 'alice.txt');
const CUT_SHORT = 5;
/** An engine in another language is compiled first. */
const BUSY_MS = 240_000;

describe.each(CONTENT_ENGINES)('$name', (engine) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-exam-'));
  const random = new Random(seed);
  const corpus = new Corpus(random);
  const documents = corpus.documents(600);
  let server: ContentServerProcess;
  let one: ShardSet;

  beforeAll(async () => {
    console.log(`${engine.name}: KATAMARI_SEED=${seed}`);
    server = await ContentServerProcess.start(await engine.command());
    one = await ShardSet.build(engine, folder, [documents]);
    await one.openIn(server);
  }, BUSY_MS);
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  describe('as a content server', () => {
    test('opens a shard once, tells its facts again, and closes it', async () => {
      const set = await ShardSet.build(engine, folder, [corpus.documents(7)]);
      const [name = ''] = set.names;
      const facts = await server.open(name, set.pathOf(name));
      expect(facts.entries).toBe(7);
      expect(await server.open(name, set.pathOf(name))).toEqual(facts);
      expect(await server.shards()).toContain(name);
      await server.close(name);
      await server.close(name);
      expect(await server.shards()).not.toContain(name);
      await expect(server.count('ka', '', [name])).rejects.toThrow(name);
      expect((await server.open(name, set.pathOf(name))).entries).toBe(7);
      await server.close(name);
      await server.close('exam@1.0.0/unknown');
    });

    test.each(['cut in half', 'emptied', 'with other bytes at its beginning'])(
      'refuses a file that was %s, as damaged',
      async (how) => {
        const set = await ShardSet.build(engine, folder, [documents.slice(0, 50)]);
        const [name = ''] = set.names;
        const copy = `${set.pathOf(name)}-damaged`;
        await cp(set.pathOf(name), copy, { recursive: true });
        const file = engine.fileOf(copy);
        if (how === 'cut in half') truncateSync(file, Math.floor(statSync(file).size / 2));
        else if (how === 'emptied') truncateSync(file, 0);
        else writeFileSync(file, Buffer.alloc(2_000, 'x'), { flag: 'r+' });
        const refused = { exception: 'ShardRefused', fields: { isDamaged: true } };
        await expect(server.open(name, copy)).rejects.toMatchObject(refused);
        expect((await server.open(name, set.pathOf(name))).entries).toBe(50);
        await server.close(name);
      },
    );

    test('refuses a path where nothing is, and says so', async () => {
      const refusal = await server
        .open('exam@1.0.0/nothing', path.join(folder, 'nothing'))
        .catch((error: unknown) => error);
      expect(refusal).toMatchObject({ exception: 'ShardRefused' });
    });

    test('fails a call for a shard that is not open, and names it', async () => {
      const call = server.search({ shards: [...one.names, 'exam@9.0.0/away'], query: 'ka' });
      await expect(call).rejects.toThrow('exam@9.0.0/away');
    });

    test('closes a shard when the calls that use it are answered', async () => {
      const set = await ShardSet.build(engine, folder, [documents.slice(0, 100)]);
      await set.openIn(server);
      const calls = Array.from({ length: 5 }, () => server.search({ shards: set.names, query: 'ka OR lo' }));
      const closed = set.closeIn(server);
      const answers = await Promise.allSettled(calls);
      await closed;
      // The first one runs when the shard is closed. Those behind it run before or after that, and none in between.
      expect(answers[0]?.status).toBe('fulfilled');
      for (const answer of answers) {
        if (answer.status === 'fulfilled') expect(answer.value.coverage).toMatchObject({ shards: 1, complete: 1 });
        else expect(String(answer.reason)).toContain(set.names[0]);
      }
      await expect(server.count('ka', '', set.names)).rejects.toThrow(set.names[0] as string);
    });

    test('has 100 shards open, and a second process opens the same files', async () => {
      const spread = split(documents, 100, (_, i) => i % 100);
      const set = await ShardSet.build(engine, folder, spread);
      const second = await ContentServerProcess.start(await engine.command());
      try {
        await Promise.all([set.openIn(server), set.openIn(second)]);
        const params = { shards: set.names, query: 'ka OR lo', count: 1_000 };
        const answers = await Promise.all([server.search(params), second.search(params), server.search(params)]);
        expect(answers[0].coverage).toMatchObject({ shards: 100, complete: 100 });
        expect(answers[1]).toEqual(answers[0]);
        expect(answers[0].total).toBe(await server.count('ka OR lo', '', one.names));
        await second.kill();
        const third = await ContentServerProcess.start(await engine.command());
        await set.openIn(third);
        expect(await third.search(params)).toEqual(answers[0]);
        await third.stop();
      } finally {
        await second.kill();
        await set.closeIn(server);
      }
    });
  });

  describe('as a search engine', () => {
    test('adds statistics up: those of any split are those of the whole', async () => {
      const property = asyncProperty(infiniteStream(nat(8)), async (places) => {
        const set = await ShardSet.build(
          engine,
          folder,
          split(documents, 9, () => places.next().value as number),
        );
        await set.openIn(server);
        for (let i = 0; i < 20; i++) {
          const query = corpus.query();
          const whole = await server.statistics(query, one.names);
          expect(sum(await Promise.all(set.names.map((name) => server.statistics(query, [name])))), query).toEqual(
            whole,
          );
          expect(sum([await server.statistics(query, set.names)]), query).toEqual(sum([whole]));
        }
        await set.closeIn(server);
      });
      await holds(property, { seed, numRuns: Math.ceil(engine.runs / 4) });
    });

    test(
      'scores documents alike, to the bit, however they are split',
      async () => {
        const sizes = record({ shards: integer({ min: 1, max: 9 }), places: infiniteStream(nat(1_000)) });
        const property = asyncProperty(sizes, async ({ shards, places }) => {
          const spread = split(documents, shards, () => (places.next().value as number) % shards);
          const set = await ShardSet.build(engine, folder, spread);
          await set.openIn(server);
          for (let i = 0; i < 15; i++) await compare(set, corpus.query(), random.between(1, 60));
          await set.closeIn(server);
        });
        await holds(property, { seed, numRuns: engine.runs });
      },
      BUSY_MS,
    );

    test('with empty shards among others', async () => {
      const set = await ShardSet.build(engine, folder, [[], documents.slice(0, 300), [], documents.slice(300), []]);
      await set.openIn(server);
      for (let i = 0; i < 20; i++) await compare(set, corpus.query(), 25);
      expect(await server.count('ka', '', [set.names[0] as string])).toBe(0);
      await set.closeIn(server);
    });

    test.skipIf(!existsSync(alice))(
      'and 250 queries about a book (skipped without KATTA_DATA)',
      async () => {
        const paragraphs = readFileSync(alice, 'latin1')
          .split(/\r?\n\s*\r?\n/)
          .filter((text) => text.trim() !== '')
          .map((body, i) => ({ key: `k${i}`, title: body.trim().split(/\s+/).slice(0, 4).join(' '), body }));
        const words = paragraphs.flatMap(({ body }) => body.toLowerCase().match(/[a-z]{3,}/g) ?? []);
        const whole = await ShardSet.build(engine, folder, [paragraphs]);
        const spread = await ShardSet.build(
          engine,
          folder,
          split(paragraphs, 8, () => random.below(8)),
        );
        await whole.openIn(server);
        await spread.openIn(server);
        for (let i = 0; i < 250; i++) {
          const at = random.below(words.length - 2);
          const [a = '', b = ''] = [words[at], words[at + 1]];
          const other = random.pick(words);
          const kinds = [
            a,
            `${a} ${other}`,
            `${a} OR ${other}`,
            `${a} AND ${b}`,
            `"${a} ${b}"`,
            `title:${a} OR ${b}`,
            `${a.slice(0, 4)}*`,
            `${a} NOT ${other}`,
            `(${a} OR "${b} ${other}") AND (the OR ${other}*)`,
          ];
          await compare(spread, kinds[i % kinds.length] as string, random.between(5, 200), whole);
        }
        await whole.closeIn(server);
        await spread.closeIn(server);
      },
      BUSY_MS,
    );

    test('counts as many documents as a search finds', async () => {
      for (let i = 0; i < 30; i++) {
        const [query, filter] = [corpus.query(), i % 2 === 0 ? '' : corpus.word()];
        const { total, hits, coverage } = await server.search({ shards: one.names, query, filter, count: 10_000 });
        expect(hits.length).toBe(total);
        expect(coverage).toMatchObject({ shards: 1, complete: 1, missing: [] });
        expect(await server.count(query, filter, one.names)).toBe(total);
        const none = await server.search({ shards: one.names, query, filter, count: 0 });
        expect(none).toMatchObject({ total, hits: [], cursor: '' });
      }
    });

    test('filters without a change of the scores', async () => {
      for (let i = 0; i < 30; i++) {
        const [query, filter] = [corpus.query(), corpus.query()];
        const all = await server.search({ shards: one.names, query, count: 10_000 });
        const kept = await server.search({ shards: one.names, query: filter, count: 10_000 });
        const both = await server.search({ shards: one.names, query, filter, count: 10_000 });
        const keptIds = new Set(kept.hits.map(({ document }) => document));
        expect(both.hits, `${query} | ${filter}`).toEqual(all.hits.filter(({ document }) => keptIds.has(document)));
      }
    });

    test.each([
      [[{ field: 'year' }]],
      [[{ field: 'year', descending: true }]],
      [[{ field: 'price', descending: true }, { field: 'tag' }]],
      [[{ field: 'tag' }, { field: '_score', descending: true }]],
      [
        [
          { field: 'tag', descending: true },
          { field: '_document', descending: true },
        ],
      ],
      [[{ field: '_score' }]],
    ])('sorts by %j, documents without the field last', async (sort) => {
      const set = await ShardSet.build(
        engine,
        folder,
        split(documents, 4, () => random.below(4)),
      );
      await set.openIn(server);
      const params = { shards: set.names, query: 'ka OR lo OR mi', count: 1_000, sort, fields: ['*'] };
      const { hits, total } = await server.search(params);
      expect(hits.length).toBe(total);
      expect(total).toBeGreaterThan(50);
      const isScored = sort.some(({ field }) => field === '_score');
      for (const hit of hits) {
        expect(Number.isNaN(hit.score)).toBe(!isScored);
        for (const [i, { field }] of sort.entries()) {
          const value = hit.sortValues[i];
          if (field === '_score') expect(value).toEqual({ real: hit.score });
          else if (field === '_document') expect(value).toEqual({ whole: hit.document });
          else expect(value).toEqual(hit.fields?.get(field)?.[0] ?? { missing: true });
        }
      }
      expect(hits).toEqual(hits.toSorted((a, b) => compareHits(a, b, sort)));
      expect(keysOf(await paged({ ...params, fields: ['key'], count: 37 }, set))).toEqual(keysOf(hits));
      await set.closeIn(server);
    });

    test('returns the stored fields that are asked for, with their types', async () => {
      const search = { shards: one.names, query: documents[3]?.key ?? '' };
      const [plain] = (await server.search(search)).hits;
      expect(plain?.fields).toBeUndefined();
      const [some] = (await server.search({ ...search, fields: ['key', 'year', 'nothing'] })).hits;
      const { key, year } = documents[3] as CorpusDocument;
      expect(Object.fromEntries(some?.fields ?? [])).toEqual({
        key: [{ text: key }],
        ...(year === undefined ? {} : { year: [{ whole: year }] }),
      });
      const [all] = (await server.search({ ...search, fields: ['*'] })).hits;
      expect(Object.fromEntries(all?.fields ?? [])).toEqual(seenFields(documents[3] as CorpusDocument));
    });

    test('returns documents by id, also binary fields, without those that do not exist', async () => {
      const { hits } = await server.search({ shards: one.names, query: 'ka', count: 50, fields: ['key'] });
      const ids = hits.map(({ shard, document }) => ({ shard, document }));
      const asked = [
        ...ids,
        { shard: one.names[0] as string, document: 1_000_000 },
        { shard: 'x@1.0.0/y', document: 1 },
      ];
      const found = await server.documents(asked, ['*']);
      expect(found.map(({ id }) => id)).toEqual(ids);
      const byKey = new Map(documents.map((document) => [document.key, document]));
      for (const [i, { fields }] of found.entries())
        expect(Object.fromEntries(fields)).toEqual(seenFields(byKey.get(keysOf(hits)[i] as string) as CorpusDocument));
      const [first] = await server.documents(ids.slice(0, 1), ['key']);
      expect([...(first?.fields.keys() ?? [])]).toEqual(['key']);
    });

    test.each([...engine.badQueries])('refuses the query %j with the place, %j', async (query, at) => {
      const refusal = { exception: 'BadQuery', fields: { at } };
      for (const call of [
        () => server.search({ shards: one.names, query }),
        () => server.count(query, '', one.names),
        () => server.statistics(query, one.names),
      ])
        await expect(call()).rejects.toMatchObject(refusal);
    });

    test('refuses counts, cursors and sort keys that make no sense', async () => {
      const good = { shards: one.names, query: 'ka' };
      const { cursor } = await server.search(good);
      expect(cursor).not.toBe('');
      for (const wrong of [
        { count: -1 },
        { count: 10_001 },
        { after: 'rabbit' },
        { after: cursor.slice(0, -4) },
        { after: cursor, sort: [{ field: 'year' }] },
      ])
        await expect(server.search({ ...good, ...wrong }), JSON.stringify(wrong)).rejects.toMatchObject({
          exception: 'BadQuery',
        });
    });

    test('explains the score of a hit', async () => {
      const { hits } = await server.search({ shards: one.names, query: 'ka OR lo', count: 3 });
      const statistics = await server.statistics('ka OR lo', one.names);
      expect(hits.length).toBe(3);
      for (const { shard, document, score } of hits) {
        const numbers = numbersIn(await server.explain('ka OR lo', { shard, document }, statistics));
        // An explanation of Lucene 3 may add its floats up in another order.
        const isNear = (one: number): boolean => Math.abs(one - score) <= score * 1e-6;
        expect(numbers.filter(isNear), `${score} in ${numbers.join(' ')}`).not.toEqual([]);
      }
    });

    test(
      'answers in time with what it has, and says which shards were cut short',
      async () => {
        const set = await ShardSet.build(
          engine,
          folder,
          split(documents, 60, (_, i) => i % 60),
        );
        await set.openIn(server);
        const outcomes = new Set<string>();
        // The shorter the time, the more is missing: 1 ms to 1.2 s. Every query is new, so that no cache answers it.
        for (let i = 0; i < 200 && !(outcomes.has('cut') && outcomes.has('whole')); i++) {
          const params = { shards: set.names, query: `${corpus.query()} OR ${corpus.word()}*`, count: 10_000 };
          const answer = await server.search(params, 1.2 ** (i % 40)).catch(() => undefined);
          if (answer === undefined) continue;
          const { shards, complete, missing } = answer.coverage;
          outcomes.add(complete === shards ? 'whole' : 'cut');
          expect(complete + missing.length).toBe(60);
          for (const { shard, lack, why } of missing) {
            expect(set.names).toContain(shard);
            expect(lack).toBe(CUT_SHORT);
            expect(why).not.toBe('');
          }
          if (missing.length === 0) continue;
          const whole = new Map(
            (await server.search(params)).hits.map((hit) => [`${hit.shard} ${hit.document}`, hit.score]),
          );
          // A cut answer that has hits was given the sums of all shards.
          for (const { shard, document, score } of answer.hits) expect(whole.get(`${shard} ${document}`)).toBe(score);
        }
        expect([...outcomes].sort()).toEqual(['cut', 'whole']);
        await set.closeIn(server);
      },
      BUSY_MS,
    );
  });

  /** Compares a search in many shards with one in the whole: scores, total, order, and pages. */
  async function compare(set: ShardSet, query: string, count: number, whole = one): Promise<void> {
    const all = { query, count: 10_000, fields: ['key'] };
    const expected = await server.search({ ...all, shards: whole.names });
    const scores = new Map(expected.hits.map((hit) => [keysOf([hit])[0] as string, hit.score]));
    // Equal scores are in the order of shards and documents, so another split has another order of them.
    const order = [...scores].sort(([a, scoreA], [b, scoreB]) => scoreB - scoreA || set.compare(a, b));
    const found = await gathered({ ...all, shards: set.names });
    expect(found.total, query).toBe(expected.total);
    expect(
      found.hits.map((hit) => [keysOf([hit])[0], hit.score]),
      query,
    ).toEqual(order);
    const pages = await paged({ ...all, count, shards: set.names }, set);
    expect(keysOf(pages), query).toEqual(order.map(([key]) => key));
    // One call for all shards adds the statistics up by itself.
    const { hits, total } = await server.search({ query, count, fields: ['key'], shards: set.names });
    expect([total, keysOf(hits)], query).toEqual([expected.total, keysOf(found.hits.slice(0, count))]);
  }

  /** All hits, page by page. */
  async function paged(params: SearchParams, set: ShardSet): Promise<readonly SeenHit[]> {
    const hits: SeenHit[] = [];
    for (let after = ''; ;) {
      const page = await gathered({ ...params, shards: set.names, after });
      hits.push(...page.hits);
      if (page.cursor === '') return hits;
      expect(page.hits.length).toBe(params.count);
      after = page.cursor;
    }
  }

  /** A search as the mesh makes it: statistics, then some shards in each of several calls, then the merge. */
  async function gathered(params: SearchParams): Promise<SeenAnswer> {
    const names = params.shards ?? [];
    const statistics = sum(await Promise.all(names.map((name) => server.statistics(params.query, [name]))));
    const groups = [names.filter((_, i) => i % 2 === 0), names.filter((_, i) => i % 2 === 1)];
    const calls = groups
      .filter((group) => group.length > 0)
      .map((shards) => server.search({ ...params, shards, statistics }));
    return merge(await Promise.all(calls), params);
  }
});

/** Shards of one version of an index, on the disk. */
class ShardSet {
  static #made = 0;
  readonly #folder: string;
  readonly #version: string;
  readonly #places = new Map<string, readonly [number, number]>();
  readonly names: readonly string[];

  private constructor(folder: string, spread: readonly (readonly CorpusDocument[])[]) {
    this.#version = `1.0.${++ShardSet.#made}`;
    this.#folder = path.join(folder, this.#version);
    this.names = spread.map((_, i) => `exam@${this.#version}/s${String(i).padStart(3, '0')}`);
    for (const [shard, documents] of spread.entries())
      for (const [place, { key }] of documents.entries()) this.#places.set(key, [shard, place]);
  }

  static async build(
    engine: ContentEngine,
    folder: string,
    spread: readonly (readonly CorpusDocument[])[],
  ): Promise<ShardSet> {
    const set = new ShardSet(folder, spread);
    const jobs = spread.map((documents, i) => {
      const ndjson = path.join(folder, `${set.#version}-${i}.ndjson`);
      writeFileSync(ndjson, documents.map((document) => `${JSON.stringify(document)}\n`).join(''));
      return { ndjson, shard: set.pathOf(set.names[i] as string) };
    });
    await engine.build(jobs);
    for (const { ndjson } of jobs) rmSync(ndjson);
    return set;
  }

  pathOf(name: string): string {
    return path.join(this.#folder, name.split('/')[1] as string);
  }

  /** The order of documents with equal scores. */
  compare(key: string, otherKey: string): number {
    const [[shard, place], [otherShard, otherPlace]] = [this.#placeOf(key), this.#placeOf(otherKey)];
    return shard - otherShard || place - otherPlace;
  }

  async openIn(server: ContentServerProcess): Promise<void> {
    await Promise.all(this.names.map((name) => server.open(name, this.pathOf(name))));
  }

  async closeIn(server: ContentServerProcess): Promise<void> {
    await Promise.all(this.names.map((name) => server.close(name)));
  }

  #placeOf(key: string): readonly [number, number] {
    const place = this.#places.get(key);
    if (place === undefined) throw new Error(`No document has the key ${key}`);
    return place;
  }
}

function split<T>(all: readonly T[], shards: number, shardOf: (one: T, i: number) => number): T[][] {
  const spread: T[][] = Array.from({ length: shards }, () => []);
  for (const [i, one] of all.entries()) spread[shardOf(one, i)]?.push(one);
  return spread;
}

/** Sums by name, names in order. */
function sum(all: readonly ReadonlyMap<string, number>[]): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  for (const one of all) for (const [name, value] of one) sums.set(name, (sums.get(name) ?? 0) + value);
  return new Map([...sums].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function keysOf(hits: readonly SeenHit[]): (string | undefined)[] {
  return hits.map(({ fields }) => fields?.get('key')?.[0]?.text);
}

/** The fields of a document as an answer has them. */
function seenFields({ thumb, ...others }: CorpusDocument): Record<string, unknown> {
  const entries = Object.entries(others).map(([field, value]) => {
    if (typeof value === 'string') return [field, [{ text: value }]];
    return [field, [Number.isInteger(value) ? { whole: value } : { real: value }]];
  });
  const bytes = thumb === undefined ? {} : { thumb: [{ bytes: Buffer.from(thumb.$binary, 'base64') }] };
  return { ...Object.fromEntries(entries), ...bytes };
}

/** The numbers in a text. Engines write the same number in different ways. */
function numbersIn(text: string): number[] {
  return (text.match(/-?\d+(\.\d+)?([eE]-?\d+)?/g) ?? []).map(Number);
}
