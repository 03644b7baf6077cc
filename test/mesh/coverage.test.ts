// Answers without all shards: two of four shards are slower than the deadline of any call. Who allows it gets an answer
// in time that says which shards are not in it, and everybody else the error `incomplete`. No answer has wrong scores.
// The mesh is a process of its own, with content servers that wait where a file tells them to.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect, type CallOptions, type ClientReplyInfo, type Mesh } from '../../client/mod.ts';
import { buildShards } from '../../content-servers/text/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { writeMapFile, type Pair } from '../kit/content/map-file-writer.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { fixture, work, type JsonRpcAnswer } from '../kit/mesh/mesh.ts';
import { refusalOf } from '../kit/tools/rejection.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

interface Hit {
  readonly shard: string;
  readonly document: number;
  readonly score: number;
}

interface Coverage {
  readonly shards: number;
  readonly complete: number;
  readonly missing: readonly { readonly shard: string; readonly lack: string }[];
}

interface Found {
  readonly total: number;
  readonly hits: readonly Hit[];
  readonly coverage: Coverage;
}

/** What the tests call with the TypeScript client. */
type TextCalls = {
  count: (args: { query: string; minCoverage?: number }, options?: CallOptions) => Promise<bigint>;
  statistics: (args: { query: string }, options?: CallOptions) => Promise<Map<string, number>>;
};

const TIMED_OUT = 'TIMED_OUT';
const FAST = ['part-00000', 'part-00001'];
const SLOW = ['part-00002', 'part-00003'];
const DOCUMENTS = 120;
const AT_ONCE = 3;
let folder: string;
let mesh: MeshProcess;
let caller: Mesh;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-coverage-'));
  mkdirSync(path.join(folder, 'lags'));
  const file = path.join(folder, 'documents.ndjson');
  // "rare" is in few documents of some shards, so that its weight depends on the shards that are counted.
  const textOf = (number: number): string =>
    `rabbit ${'hole '.repeat(number % 4)} ${number % 11 === 0 ? 'rare' : ''} ${number % 3 === 0 ? 'queen king' : 'tea'}`;
  const lines = Array.from({ length: DOCUMENTS }, (_, id) => JSON.stringify({ text: textOf(id), id }));
  writeFileSync(file, lines.join('\n'));
  await buildShards({ inputs: [file], output: path.join(folder, 'texts'), shards: 4 });
  for (const [at, name] of [...FAST, ...SLOW].entries()) {
    const pairs = ['all', `only ${at}`].map((key): Pair => [Buffer.from(key), Buffer.from(`value ${at}`)]);
    writeMapFile(path.join(folder, 'maps', name), pairs);
  }
  // Each shard in a request of its own.
  const engine = (service: string): Parameters<typeof work>[0] => ({
    service,
    command: fixture('lagging-engine.ts'),
    count: 4,
    env: { ENGINE: service, LAGS: path.join(folder, 'lags') },
  });
  mesh = await startMeshProcess({
    directory: folder,
    settings: { timeout: '2s' },
    deployments: [
      work(engine('TextSearch')),
      work(engine('MapFileLookup')),
      work({ service: 'Librarian', command: fixture('librarian.ts'), count: 1 }),
    ],
  });
  const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
  const signer = documentSigner('test', () => [secret]);
  const client = consulClient({ address: mesh.addresses.consul, token: mesh.consulToken, signer });
  for (const [name, contentService] of [
    ['texts', 'TextSearch'],
    ['maps', 'MapFileLookup'],
  ] as const)
    await addIndex(client, path.join(folder, name), '1.0.0', { name, contentService });
  await until('the texts', async () => (await mesh.call('texts.count', { query: 'rabbit' })).result === DOCUMENTS);
  await until('the maps', async () => (await mesh.call('maps.get', { key: key('all') })).result !== undefined);
  await untilComplete();
  caller = connect({ addresses: mesh.addresses.thrift });
}, 120_000);
afterAll(async () => {
  caller.close();
  await mesh.end();
  rmSync(folder, { recursive: true, force: true });
});

/** A copy that is late may be replaced. With all of them, each shard is asked for in a request of its own. */
async function untilComplete(): Promise<void> {
  await until('every copy', async () => (await mesh.status()).pools.every(({ alive, wanted }) => alive === wanted));
}

/** A copy that is late stays busy for longer than its call. */
async function untilFree(): Promise<void> {
  await until('free copies', async () => (await mesh.status()).pools.every(({ free, wanted }) => free === wanted));
}

const key = (text: string): string => Buffer.from(text).toString('base64');
const search = async (index: string, params: object): Promise<Found> => {
  const { result, error } = await mesh.call(`${index}.search`, { count: DOCUMENTS, ...params });
  if (error !== undefined) throw new Error(JSON.stringify(error));
  return result as Found;
};
const hitsOf = ({ hits }: Found): unknown => hits.map(({ shard, document, score }) => [shard, document, score]);
const inShards = (found: Found, shards: readonly string[]): Found => ({
  ...found,
  hits: found.hits.filter(({ shard }) => shards.some((name) => shard.endsWith(name))),
});
const fast = (index: string): string[] => FAST.map((name) => `${index}@1.0.0/${name}`);
const timedOut = (index: string): object[] =>
  SLOW.map((name) => expect.objectContaining({ shard: `${index}@1.0.0/${name}`, lack: TIMED_OUT }));
const half = (index: string): object => expect.objectContaining({ shards: 4, complete: 2, missing: timedOut(index) });
const missingSlow = SLOW.map((name) => ({ shard: `texts@1.0.0/${name}`, lack: 'TIMED_OUT' }));
const header = ({ headers }: JsonRpcAnswer): string | null => headers.get('katamari-coverage');

function makeSlow(): void {
  for (const name of SLOW) writeFileSync(path.join(folder, 'lags', name), '3000');
}
function makeFast(): void {
  for (const name of SLOW) rmSync(path.join(folder, 'lags', name), { force: true });
}

describe('With two of four shards slower than the deadline', () => {
  beforeEach(async () => {
    // A copy that is still busy with the test before would be asked for several shards at once, or be replaced.
    await untilFree();
    makeSlow();
  });
  afterEach(makeFast);

  test('a search that allows it is answered in time, and names both', async () => {
    const found = await search('texts', { query: 'hole', minCoverage: 0.5 });
    expect(found.coverage).toEqual(half('texts'));
    expect(inShards(found, SLOW).hits).toEqual([]);
    // As in an index of the other two.
    const alone = await search('texts', { query: 'hole', shards: fast('texts') });
    expect(found.total).toBe(alone.total);
    expect(hitsOf(found)).toEqual(hitsOf(alone));
  });

  test('a count, a look-up and documents that allow it say the same', async () => {
    const counted = await mesh.call('texts.count', { query: 'rabbit', minCoverage: 0.5 });
    const alone = await mesh.call('texts.count', { query: 'rabbit', shards: fast('texts') });
    expect([counted.result, header(counted)]).toEqual([alone.result, '2/4']);
    expect(counted.headers.get('katamari-missing')).toBe(
      missingSlow.map(({ shard }) => `${shard} TIMED_OUT`).join(', '),
    );
    const looked = await mesh.call('maps.get', { key: key('all'), minCoverage: 0.5 });
    expect(header(looked)).toBe('2/4');
    expect(looked.result).toEqual({
      entries: fast('maps').map((shard, at) => ({ shard, key: key('all'), value: key(`value ${at}`) })),
      coverage: half('maps'),
    });
    await untilFree();
    const many = await mesh.call('maps.getMany', { keys: [key('only 1'), key('only 2')], minCoverage: 0.5 });
    expect(many.result).toMatchObject({ entries: [{ key: key('only 1') }], coverage: half('maps') });
    const ids = [...fast('texts'), ...SLOW.map((name) => `texts@1.0.0/${name}`)].map((shard) => ({
      shard,
      document: 1,
    }));
    await untilFree();
    const read = await mesh.call('texts.documents', { ids, minCoverage: 0.5 });
    expect(header(read)).toBe('2/4');
    expect((read.result as { id: object }[]).map(({ id }) => id)).toEqual(ids.slice(0, 2));
  });

  test('the TypeScript client tells its caller, whatever the result type', async () => {
    const texts = caller.service<TextCalls>('texts');
    const infos: ClientReplyInfo[] = [];
    const onReply = (info: ClientReplyInfo): unknown => infos.push(info);
    const counted = await texts.count({ query: 'rabbit', minCoverage: 0.5 }, { onReply });
    expect(counted).toBe(BigInt(DOCUMENTS / 2));
    const coverage = { shards: 4, complete: 2, missing: missingSlow };
    expect(infos).toEqual([{ version: '1.0.0', coverage, tries: 1, address: mesh.addresses.thrift }]);
  });

  test('a method without minCoverage is asked for it beside the arguments, which precedes the parameter', async () => {
    const query = 'rabbit';
    const half = { 'katamari-min-coverage': '0.5' };
    const asked = await mesh.call('texts.statistics', { query }, half);
    const alone = await mesh.call('texts.statistics', { query, shards: fast('texts') });
    expect([asked.result, header(asked)]).toEqual([alone.result, '2/4']);
    await untilFree();
    const { headers } = await mesh.call('texts.count', { query, minCoverage: 1 }, half);
    expect(headers.get('katamari-coverage')).toBe('2/4');
    await untilFree();
    const texts = caller.service<TextCalls>('texts', { minCoverage: 0.5, i64: 'number' });
    expect(await texts.statistics({ query })).toEqual(new Map(Object.entries(alone.result as object)));
    await untilFree();
    const error = await refusalOf(texts.statistics({ query }, { minCoverage: 0.75 }));
    expect(error.code).toBe('incomplete');
  });

  test('ctx.call tells the handler that calls', async () => {
    const params = { index: 'texts', query: 'rabbit', minCoverage: 0.5 };
    const { result } = await mesh.call('Librarian.replyOfCount', params);
    const coverage = { shards: 4, complete: 2, missing: missingSlow };
    expect(JSON.parse(String(result))).toEqual([DOCUMENTS / 2, { version: '1.0.0', coverage }]);
  });

  test('a search in several indices that allows it says the same', async () => {
    const params = { indices: ['texts'], query: 'hole OR tea', minCoverage: 0.5 };
    const found = await search('KatamariSearch', params);
    expect(found.coverage).toEqual(half('texts'));
    expect(hitsOf(found)).toEqual(hitsOf(await search('texts', { query: 'hole OR tea', shards: fast('texts') })));
    await untilFree();
    const counted = await mesh.call('KatamariSearch.count', params);
    expect(header(counted)).toBe('2/4');
  });

  test('every other call fails with incomplete, and the error names both', async () => {
    const ids = [{ shard: `texts@1.0.0/${SLOW[0]}`, document: 1 }];
    // Three shards, since an error names three at most, and a manager that is busy answers for all shards at once.
    const [texts, maps] = ['texts', 'maps'].map((index) => [
      ...fast(index).slice(0, 1),
      ...SLOW.map((name) => `${index}@1.0.0/${name}`),
    ]);
    // Each asks for something else: a request that has cost two copies is refused.
    const calls: readonly (readonly [method: string, params: object, missing: readonly string[]])[] = [
      ['texts.search', { query: 'king', shards: texts }, SLOW],
      ['texts.search', { query: 'queen', shards: texts, minCoverage: 0.75 }, SLOW],
      ['texts.search', { query: 'king OR queen', shards: texts, sort: [{ field: 'id' }] }, SLOW],
      ['texts.search', { query: 'queen OR tea' }, []],
      ['KatamariSearch.search', { indices: ['texts'], query: 'king OR tea' }, []],
      ['texts.statistics', { query: 'king AND queen', shards: texts }, SLOW],
      ['texts.count', { query: 'tea', shards: texts }, SLOW],
      ['texts.documents', { ids }, SLOW.slice(0, 1)],
      ['texts.explain', { query: 'rabbit AND king', id: ids[0] }, []],
      ['maps.get', { key: key('only 2'), shards: maps }, SLOW],
      ['maps.getMany', { keys: [key('only 3')], shards: maps }, SLOW],
    ];
    // Not all at once: the copies must not run out of places.
    const ask = ([method, params]: (typeof calls)[number]): Promise<JsonRpcAnswer> => mesh.call(method, params);
    const answers: JsonRpcAnswer[] = [];
    for (let at = 0; at < calls.length; at += AT_ONCE) {
      await untilComplete();
      answers.push(...(await Promise.all(calls.slice(at, at + AT_ONCE).map(ask))));
    }
    for (const [at, { error, status }] of answers.entries()) {
      const [method, , missing] = calls[at] as (typeof calls)[number];
      expect([method, error?.code, error?.data?.['code'], status]).toEqual([method, -32011, 'incomplete', 503]);
      for (const name of missing)
        expect(`${method}: ${error?.message}`).toMatch(new RegExp(`@1.0.0/${name} TIMED_OUT`));
    }
  });

  test('a search with statistics that are known has the scores of the whole index', async () => {
    makeFast();
    const whole = await search('texts', { query: 'rare rabbit' });
    expect(whole.coverage.complete).toBe(4);
    makeSlow();
    const part = await search('texts', { query: 'rare rabbit', minCoverage: 0.5 });
    expect(part.coverage).toEqual(half('texts'));
    expect(hitsOf(part)).toEqual(hitsOf(inShards(whole, FAST)));
  });

  test('statistics without all shards are used for one answer, and not kept', async () => {
    const query = 'rare OR queen';
    const part = await search('texts', { query, minCoverage: 0.5 });
    expect(part.coverage).toEqual(half('texts'));
    makeFast();
    const whole = await search('texts', { query, minCoverage: 0.5 });
    expect(whole.coverage).toMatchObject({ shards: 4, complete: 4, missing: [] });
    // The scores of the whole index are others.
    expect(hitsOf(inShards(whole, FAST))).not.toEqual(hitsOf(part));
    expect(
      hitsOf(
        await search('texts', { query, shards: [...fast('texts'), ...SLOW.map((name) => `texts@1.0.0/${name}`)] }),
      ),
    ).toEqual(hitsOf(whole));
  });

  test('a shard whose statistics are missing is not in the answer, though it would be fast enough', async () => {
    makeFast();
    const query = 'hole OR queen OR rare';
    for (const name of SLOW) writeFileSync(path.join(folder, 'lags', `${name}.once`), '3000');
    const found = await search('texts', { query, minCoverage: 0.5 });
    expect(found.coverage).toEqual(half('texts'));
    expect(hitsOf(found)).toEqual(hitsOf(await search('texts', { query, shards: fast('texts') })));
  });
});
