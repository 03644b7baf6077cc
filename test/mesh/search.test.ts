// Search through a whole mesh: the same documents in one shard and in many give the same hits with the same scores, to
// the last bit, on every way of asking. The mesh is a process of its own with two copies of TextSearch.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { buildShards } from '../../content-servers/text/mod.ts';
import { scriptCommand } from '../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../services/consul/mod.ts';
import { documentSigner, keysOf } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

interface Hit {
  readonly shard: string;
  readonly document: number;
  readonly score: number;
  readonly fields?: Readonly<Record<string, readonly { text?: string; whole?: number }[]>>;
}

interface Found {
  readonly total: number;
  readonly hits: readonly Hit[];
  readonly cursor: string;
  readonly coverage: { readonly shards: number; readonly complete: number };
}

const WORDS = ['alice', 'rabbit', 'hole', 'queen', 'hatter', 'tea', 'cat', 'king', 'garden', 'dream'];
const DOCUMENTS = 400;
let folder: string;
let mesh: MeshProcess;
let client: ConsulClient;

/** A text that depends on its number alone, so that words have different frequencies. */
function textOf(number: number): string {
  return WORDS.filter((_, at) => number % (at + 2) === 0)
    .flatMap((word, at) => Array(1 + ((number + at) % 3)).fill(word))
    .join(' ');
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-search-'));
  const file = path.join(folder, 'documents.ndjson');
  const lines = Array.from({ length: DOCUMENTS }, (_, number) =>
    JSON.stringify({
      text: textOf(number) || 'nothing',
      id: number,
      ...(number % 7 === 0 ? {} : { price: number % 50 }),
    }),
  );
  writeFileSync(file, lines.join('\n'));
  await buildShards({ inputs: [file], output: path.join(folder, 'one'), shards: 1 });
  await buildShards({ inputs: [file], output: path.join(folder, 'many'), shards: 7 });
  mesh = await startMeshProcess({
    directory: path.join(folder),
    settings: { timeout: '5s' },
    deployments: [
      work({
        service: 'TextSearch',
        command: scriptCommand(path.join(REPOSITORY, 'content-servers/text/main.ts')),
        count: 2,
      }),
    ],
  });
  const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
  client = consulClient({
    address: mesh.addresses.consul,
    token: mesh.consulToken,
    signer: documentSigner('test', () => [secret]),
  });
  for (const name of ['one', 'many'])
    await addIndex(client, path.join(folder, name), '1.0.0', { name, contentService: 'TextSearch' });
  for (const name of ['one', 'many'])
    await until(
      `${name} to be served`,
      async () => (await mesh.call(`${name}.count`, { query: 'rabbit' })).result !== undefined,
    );
}, 90_000);
afterAll(async () => {
  await mesh.end();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(index: string, params: Readonly<Record<string, unknown>>, headers = {}): Promise<Found> {
  const { result, error } = await mesh.call(`${index}.search`, params, headers);
  if (error !== undefined) throw new Error(JSON.stringify(error));
  return result as Found;
}

/** What does not depend on where a document is: its own id and its score, the ties by id. */
function seen({ total, hits }: Found): unknown {
  const ranked = hits.map(({ score, fields }) => [score, fields?.['id']?.[0]?.whole] as const);
  return { total, hits: [...ranked].sort(([a, idA], [b, idB]) => b - a || Number(idA) - Number(idB)) };
}

const QUERIES = [
  'rabbit',
  'rabbit hole',
  'queen OR king',
  'tea NOT hatter',
  '"alice alice"',
  'ca*',
  '(cat OR dream) garden',
  'absent',
];

describe('A search over seven shards', () => {
  test.each(QUERIES)('gives the hits of one shard with the same scores: %s', async (query) => {
    const params = { query, count: DOCUMENTS, fields: ['id'] };
    const [one, many] = [await ask('one', params), await ask('many', params)];
    expect(seen(many)).toEqual(seen(one));
    expect(many.coverage).toMatchObject({ shards: 7, complete: 7 });
    expect((await mesh.call('many.count', { query })).result).toBe(one.total);
    // The second time it knows the statistics.
    expect(await ask('many', params)).toEqual(many);
  });

  test('pages with cursors without a gap and without a double', async () => {
    const whole = await ask('many', { query: 'rabbit OR queen', count: DOCUMENTS });
    const pages: Hit[] = [];
    let after = '';
    do {
      const page = await ask('many', { query: 'rabbit OR queen', count: 13, after });
      expect(page.total).toBe(whole.total);
      pages.push(...page.hits);
      after = page.cursor;
    } while (after !== '');
    expect(pages).toEqual(whole.hits);
  });

  test('sorts by fields, those without a value last, in both directions', async () => {
    for (const descending of [false, true]) {
      const params = {
        query: 'rabbit',
        count: DOCUMENTS,
        sort: [{ field: 'price', descending }, { field: 'id' }],
        fields: ['id', 'price'],
      };
      const idsOf = ({ hits }: Found): unknown => hits.map(({ fields }) => fields?.['id']?.[0]?.whole);
      const many = await ask('many', params);
      expect(idsOf(many)).toEqual(idsOf(await ask('one', params)));
      expect(many.hits.at(-1)?.fields?.['price'] ?? []).toEqual([]);
    }
  });

  test('finds documents of an earlier answer', async () => {
    const { hits } = await ask('many', { query: 'rabbit', count: 5 });
    const ids = hits.map(({ shard, document }) => ({ shard, document }));
    const { result } = await mesh.call('many.documents', { ids, fields: ['text'] });
    const found = result as { id: { shard: string; document: number }; fields: Found['hits'][number]['fields'] }[];
    expect(found.length).toBe(5);
    for (const one of found) expect(one.fields?.['text']?.[0]?.text).toContain('rabbit');
    // It explains the score that the search has, which depends on all shards.
    const { result: text } = await mesh.call('many.explain', { query: 'rabbit', id: ids[0] });
    expect(String(text)).toContain('rabbit');
    expect(String(text)).toContain(String(hits[0]?.score).slice(0, 8));
  });

  test('is called with the client library by the name of the index', async () => {
    const library = connect({ addresses: [mesh.addresses.thrift] });
    const index = library.service<{ search(params: object): Promise<Found> }>('many', { i64: 'number' });
    const params = { query: 'rabbit', count: 3 };
    const { total, hits } = await index.search(params);
    await library.drain();
    const wanted = await ask('many', params);
    const places = hits.map(({ shard, score }) => [shard, score]);
    expect(total).toBe(wanted.total);
    expect(places).toEqual(wanted.hits.map(({ shard, score }) => [shard, score]));
  });

  test('says where a query is wrong, and refuses too many hits or documents', async () => {
    const { error } = await mesh.call('many.search', { query: '\u{1F407} OR rabbit AND (hole' });
    expect(error?.data).toMatchObject({ exception: 'BadQuery', at: 16 });
    const documents = async (shard: string, count: number): Promise<string | undefined> => {
      const ids = Array.from({ length: count }, (_, document) => ({ shard, document }));
      return (await mesh.call('many.documents', { ids })).error?.message;
    };
    expect(await documents('many@1.0.0/part-00000', 10_000)).toBeUndefined();
    expect(await documents('many@1.0.0/part-00000', 10_001)).toBe(
      'The call names 10001 documents, limit is 10000; ask for them in several calls',
    );
    expect(await documents('elsewhere', 1)).toBe('There is no elsewhere here, or this caller may not call it');
    expect((await mesh.call('many.search', { query: 'rabbit', count: 10_000_000 })).error?.message).toBe(
      'count is 10000000, expected 0 to 10000; page with the cursor for more',
    );
  });
});

describe('A search in several indices', () => {
  const inAll = (indices: readonly string[], more = {}): Promise<Found> =>
    ask('KatamariSearch', { indices, query: 'rabbit OR queen', count: DOCUMENTS * 2, fields: ['id'], ...more });

  test('finds the documents of all with scores as in one', async () => {
    const [one, both] = [
      await ask('one', { query: 'rabbit OR queen', count: DOCUMENTS }),
      await inAll(['one', 'many']),
    ];
    expect(both.total).toBe(one.total * 2);
    expect(both.coverage).toMatchObject({ shards: 8, complete: 8 });
    // Both have the same documents, so each score is there twice.
    const scores = both.hits.map(({ score }) => score);
    expect(scores.filter((_, at) => at % 2 === 0)).toEqual(scores.filter((_, at) => at % 2 === 1));
    expect(await inAll(['*'])).toEqual(both);
    expect((await inAll(['m*y'])).coverage.shards).toBe(7);
    expect((await inAll(['one@1.0.0', 'one@^1', 'one'])).coverage.shards).toBe(1);
    expect((await mesh.call('KatamariSearch.count', { indices: ['*'], query: 'rabbit OR queen' })).result).toBe(
      both.total,
    );
  });

  test('says which index is not there, or cannot be searched', async () => {
    const failure = async (indices: readonly string[]): Promise<unknown> =>
      (await mesh.call('KatamariSearch.search', { indices, query: 'rabbit' })).error?.message;
    expect(await failure(['x*'])).toBe('No index is called x*; indices are many, one');
    expect(await failure(['TextSearch'])).toBe('TextSearch is a service and no index, so it cannot be searched');
    expect(await failure(['absent'])).toMatch(/^No pool offers absent/);
  });
});

describe('Documents of an earlier version', () => {
  test('are found after another version got the calls', async () => {
    const { hits } = await ask('many', { query: 'queen', count: 3 });
    await addIndex(client, path.join(folder, 'one'), '2.0.0', { name: 'many', contentService: 'TextSearch' });
    await until(
      'the new version to get the calls',
      async () => (await ask('many', { query: 'queen' })).coverage.shards === 1,
    );
    const ids = hits.map(({ shard, document }) => ({ shard, document }));
    const { result } = await mesh.call('many.documents', { ids });
    expect((result as unknown[]).length).toBe(3);
    await client.delete(`${keysOf('test').indices}many/2.0.0`);
    await until(
      'the first version to get the calls',
      async () => (await ask('many', { query: 'queen' })).coverage.shards === 7,
    );
  });
});
