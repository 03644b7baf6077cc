// The indices of the chaos test and what is in them, so that every answer can be judged. `wiki` is text in six shards
// and has three versions with other documents; `pairs` is a map from keys to values in four shards.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { LRUCache } from 'lru-cache';
import type { HandlerContext } from '../../../chassis-sdk/typescript/mod.ts';
import { Analyzers } from '../../../content-servers/text/analyzer.ts';
import { textHandlers } from '../../../content-servers/text/handlers.ts';
import { buildShards } from '../../../content-servers/text/mod.ts';
import { openTextShard } from '../../../content-servers/text/open-shard.ts';
import type { TextShard } from '../../../content-servers/text/shard.ts';
import { writeMapFile } from '../content/map-file-writer.ts';
import type { Random } from '../tools/random.ts';

export const WIKI_VERSIONS = ['1.0.0', '2.0.0', '3.0.0'] as const;
export const WIKI_SHARDS = 6;
export const WIKI_DOCUMENTS = 240;
export const PAIRS_SHARDS = 4;
export const PAIRS_ENTRIES = 200;

/** A call of an index and a judge of its results. */
export interface KnownCall {
  /** `wiki.search` */
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Returns why the result is wrong; '' when it is what this version of the index has. */
  readonly judge: (result: unknown, version: string) => string;
}

interface FoundHit {
  readonly score: number;
  readonly fields: Readonly<Record<string, readonly { readonly whole?: number }[]>>;
}

interface FoundText {
  readonly total: number;
  readonly hits: readonly FoundHit[];
  readonly coverage: { readonly shards: number; readonly complete: number };
}

/** What a query finds in the documents of one version. */
interface Known {
  /** Scores by the number of the document. */
  readonly scores: ReadonlyMap<number, number>;
}

export class KnownIndices {
  /** Folder of all sources. */
  readonly directory: string;
  readonly #known = new Map<string, Known>();

  private constructor() {
    this.directory = mkdtempSync(path.join(tmpdir(), 'katamari-chaos-'));
  }

  static async make(random: Random): Promise<KnownIndices> {
    const indices = new KnownIndices();
    for (const version of WIKI_VERSIONS) await indices.#makeWiki(version, random);
    indices.#makePairs();
    return indices;
  }

  /** Folder with the shards of a version. */
  source(name: string, version: string): string {
    return path.join(this.directory, `${name}-${version}`);
  }

  sourceUrl(name: string, version: string): string {
    return pathToFileURL(this.source(name, version)).href;
  }

  call(random: Random): KnownCall {
    const dice = random.below(4);
    if (dice === 0) return pairCall(random.below(PAIRS_ENTRIES + PAIRS_ENTRIES / 10));
    const query = random.pick(QUERIES);
    const known = (version: string): Known => this.#known.get(`${version} ${query}`) as Known;
    if (dice === 1) {
      const judge = (result: unknown, version: string): string => differs('count', result, known(version).scores.size);
      return { method: 'wiki.count', params: { query }, judge };
    }
    const isSorted = dice === 2;
    const sort = isSorted ? { sort: [{ field: 'number', descending: true }] } : {};
    return {
      method: 'wiki.search',
      params: { query, count: HITS, fields: ['number'], ...sort },
      judge: (result, version) => judgeFound(result as FoundText, known(version).scores, isSorted),
    };
  }

  /** A call that has another answer in each version. */
  versionCall(): KnownCall {
    const query = QUERIES[0] as string;
    const judge = (result: unknown, version: string): string =>
      differs('count', result, this.#known.get(`${version} ${query}`)?.scores.size);
    return { method: 'wiki.count', params: { query }, judge };
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #makeWiki(version: string, random: Random): Promise<void> {
    const input = path.join(this.directory, `wiki-${version}.ndjson`);
    // The first word tells the versions apart.
    const share = 0.2 * (1 + WIKI_VERSIONS.indexOf(version as (typeof WIKI_VERSIONS)[number]));
    const lines = Array.from({ length: WIKI_DOCUMENTS }, (_, number) => {
      const others = Array.from({ length: random.between(3, 30) }, () => random.pick(WORDS));
      return JSON.stringify({
        text: `${number < WIKI_DOCUMENTS * share ? `${MARK} ` : ''}${others.join(' ')}`,
        number,
      });
    });
    writeFileSync(input, lines.join('\n'));
    await buildShards({ inputs: [input], output: this.source('wiki', version), shards: WIKI_SHARDS });
    const whole = path.join(this.directory, `whole-${version}`);
    await buildShards({ inputs: [input], output: whole, shards: 1 });
    for (const [query, scores] of await scoresOf(path.join(whole, 'part-00000')))
      this.#known.set(`${version} ${query}`, { scores });
    rmSync(whole, { recursive: true });
  }

  #makePairs(): void {
    for (let shard = 0; shard < PAIRS_SHARDS; shard++) {
      const entries = Array.from({ length: PAIRS_ENTRIES }, (_, number) => number)
        .filter((number) => number % PAIRS_SHARDS === shard)
        .map((number) => [Buffer.from(keyOf(number)), Buffer.from(valueOf(number))] as const);
      const folder = path.join(this.source('pairs', '1.0.0'), `part-${shard}`);
      writeMapFile(folder, entries, { compression: 'RECORD', indexInterval: 16 });
    }
  }
}

/** The scores of all documents that each query finds in one shard with all documents. */
async function scoresOf(file: string): Promise<ReadonlyMap<string, ReadonlyMap<number, number>>> {
  const pool = { analyzers: new Analyzers(), cache: new LRUCache<string, object>({ maxSize: 1 << 20 }) };
  const shard = await openTextShard(file, pool);
  try {
    const use = async <T>(_: unknown, work: (open: ReadonlyMap<string, TextShard>) => T | Promise<T>): Promise<T> =>
      await work(new Map([['whole', shard]]));
    const search = textHandlers({ use })['search'] as (params: unknown, context: HandlerContext) => Promise<unknown>;
    const context = { timeLeftMs: () => 60_000 } as HandlerContext;
    const found = new Map<string, ReadonlyMap<number, number>>();
    for (const query of QUERIES) {
      const params = { query, count: WIKI_DOCUMENTS, filter: '', after: '', fields: ['number'] };
      const { hits } = (await search(params, context)) as {
        hits: readonly { score: number; fields: ReadonlyMap<string, readonly { whole: bigint }[]> }[];
      };
      found.set(query, new Map(hits.map(({ score, fields }) => [Number(fields.get('number')?.[0]?.whole), score])));
    }
    return found;
  } finally {
    shard.close();
  }
}

function judgeFound(
  { total, hits, coverage }: FoundText,
  scores: ReadonlyMap<number, number>,
  isSorted: boolean,
): string {
  const numbers = hits.map(({ fields }) => fields['number']?.[0]?.whole ?? -1);
  const wrong =
    differs('total', total, scores.size) ||
    differs('shards', coverage.shards, WIKI_SHARDS) ||
    differs('complete shards', coverage.complete, WIKI_SHARDS) ||
    differs('different hits', new Set(numbers).size, Math.min(HITS, scores.size));
  if (wrong !== '') return wrong;
  if (isSorted) return differs('hits', numbers, [...scores.keys()].sort((a, b) => b - a).slice(0, HITS));
  const best = [...scores.values()].sort((a, b) => b - a).slice(0, HITS);
  return (
    differs(
      'scores',
      hits.map(({ score }) => score),
      best,
    ) ||
    differs(
      'scores of these documents',
      numbers.map((number) => scores.get(number)),
      best,
    )
  );
}

function pairCall(number: number): KnownCall {
  const binary = (text: string): string => Buffer.from(text).toString('base64');
  const [key, value] = [binary(keyOf(number)), binary(valueOf(number))];
  const right = number < PAIRS_ENTRIES ? [{ shard: `pairs@1.0.0/part-${number % PAIRS_SHARDS}`, key, value }] : [];
  return {
    method: 'pairs.get',
    params: { key },
    judge: (result) => {
      const { entries, coverage } = result as { entries: unknown; coverage: { complete: number } };
      return differs('entries', entries, right) || differs('complete shards', coverage.complete, PAIRS_SHARDS);
    },
  };
}

function differs(what: string, found: unknown, expected: unknown): string {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  return a === b ? '' : `${what}: found ${a}, expected ${b}`;
}

function keyOf(number: number): string {
  return `key-${String(number).padStart(5, '0')}`;
}

function valueOf(number: number): string {
  return `value of ${number} ${'='.repeat(number % 50)}`;
}

const MARK = 'mark';
const WORDS = ['alice', 'rabbit', 'hole', 'queen', 'hatter', 'tea', 'cat', 'king', 'garden', 'dream', 'hare', 'duck'];
const QUERIES = [
  MARK,
  'alice',
  'rabbit hole',
  'queen OR king',
  '"tea cat"',
  'gar*',
  'hatter NOT dream',
  '(hare OR duck) tea',
];
const HITS = 10;
