// Calls of an index: one call goes to every shard and comes back as one answer, which says which shards are in it. The
// mesh is a process of its own with the embedded Consul, two copies of the content server, and real files.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../services/consul/mod.ts';
import { documentSigner, keysOf } from '../../services/mesh/mod.ts';
import { addIndex, writeWords } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { fixture, work, type JsonRpcAnswer } from '../kit/mesh/mesh.ts';
import { promtool } from '../kit/tools/promtool.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const KEYS = keysOf('test');
let folder: string;
let mesh: MeshProcess;
let client: ConsulClient;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-gather-'));
  writeWords(path.join(folder, 'one'), { a: 'the cat', b: 'the dog and the end', c: 'nothing' });
  writeWords(path.join(folder, 'two'), { a: 'the other words' });
  mesh = await startMeshProcess({
    directory: path.join(folder),
    settings: { timeout: '2s' },
    deployments: [work({ service: 'Words', command: fixture('words.ts'), count: 2 })],
  });
  const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
  client = consulClient({
    address: mesh.addresses.consul,
    token: mesh.consulToken,
    signer: documentSigner('test', () => [secret]),
  });
  await addIndex(client, path.join(folder, 'one'), '1.0.0');
  await until('the index to be served', async () => (await mesh.call('wiki.total', { word: 'the' })).result === 3);
}, 60_000);
afterAll(async () => {
  await mesh.end();
  rmSync(folder, { recursive: true, force: true });
});

const call = (method: string, params: unknown = {}, headers: Readonly<Record<string, string>> = {}) =>
  mesh.call(method, params, headers);
const result = async (method: string, params: unknown = {}): Promise<unknown> => (await call(method, params)).result;
const failure = ({ error }: JsonRpcAnswer): unknown => [error?.data?.['code'] ?? error?.code, error?.message];
const live = (shard: string, file: string): string =>
  path.join(folder, 'data/shards/live/wiki@1.0.0', shard, 'content', file);

/** Makes a shard slow while `work` runs. */
async function lagging<T>(shard: string, ms: number, act: () => Promise<T>): Promise<T> {
  writeFileSync(live(shard, 'lags'), String(ms));
  try {
    return await act();
  } finally {
    rmSync(live(shard, 'lags'));
  }
}

describe('A call of an index', () => {
  test('is made one by sum, union, concat and first', async () => {
    expect(await result('wiki.total', { word: 'the' })).toBe(3);
    expect(await result('wiki.total', { word: 'absent' })).toBe(0);
    expect(await result('wiki.frequencies')).toMatchObject({ the: 3, cat: 1, dog: 1, nothing: 1 });
    expect(await result('wiki.count', { word: 'the' })).toEqual({
      'wiki@1.0.0/a': 1,
      'wiki@1.0.0/b': 2,
      'wiki@1.0.0/c': 0,
    });
    expect(await result('wiki.hold', { ms: 0 })).toEqual(['wiki@1.0.0/a', 'wiki@1.0.0/b', 'wiki@1.0.0/c']);
    expect(await result('wiki.where', { word: 'dog' })).toBe('wiki@1.0.0/b');
    expect(await result('wiki.where', { word: 'absent' })).toBe('');
  });

  test('says in the result which shards are in it, where the result has room for it', async () => {
    expect(await result('wiki.texts')).toEqual({
      sentences: ['the cat', 'the dog and the end', 'nothing'],
      coverage: { shards: 3, complete: 3, missing: [], retried: 0, hedged: 0 },
    });
  });

  test('looks at the shards that the caller names', async () => {
    expect(await result('wiki.total', { shards: ['wiki@1.0.0/a'], word: 'the' })).toBe(1);
    expect(await result('wiki.total', { shards: ['wiki@1.0.0/b', 'wiki@1.0.0/b'], word: 'the' })).toBe(2);
    // Some clients always write the list.
    expect(await result('wiki.total', { shards: [], word: 'the' })).toBe(3);
    expect(failure(await call('wiki.total', { shards: ['wiki@1.0.0/z'], word: 'the' }))).toEqual([
      'bad_request',
      'wiki@1.0.0 has no shard "wiki@1.0.0/z"; its shards are wiki@1.0.0/a, wiki@1.0.0/b, wiki@1.0.0/c',
    ]);
  });

  test('ends with the exception that a content server declares', async () => {
    const { error } = await call('wiki.total', { word: 'no word' });
    expect([error?.code, error?.data]).toEqual([-32050, { exception: 'NotAWord', word: 'no word' }]);
  });

  test('is refused with the reason when it cannot be gathered', async () => {
    expect(failure(await call('wiki.about'))).toEqual([
      'bad_request',
      'about of Words cannot be called through an index: it has no katamari.gather',
    ]);
    expect(failure(await call('wiki.total', { word: 'a', minCoverage: 1.5 }))).toEqual([
      'bad_request',
      'minCoverage is 1.5, expected a share from 0 to 1',
    ]);
  });

  test('fails by default when a shard is too slow, and names it', async () => {
    const [code, message] = (await lagging('b', 10_000, async () =>
      failure(await call('wiki.total', { word: 'the' })),
    )) as [string, string];
    expect(code).toBe('incomplete');
    expect(message).toMatch(
      /^[0-2] of 3 shards of wiki@1\.0\.0 are in the answer, and minCoverage is 1: wiki@1\.0\.0\//,
    );
    expect(message).toContain('wiki@1.0.0/b TIMED_OUT');
  });

  test('answers in time with what there is when the caller asks for less', async () => {
    const answer = (await lagging('b', 10_000, () =>
      result('wiki.texts', { minCoverage: 0.3, shards: ['wiki@1.0.0/a', 'wiki@1.0.0/b'] }),
    )) as { coverage: { missing: readonly { shard: string; lack: number }[]; shards: number } };
    expect(answer.coverage.shards).toBe(2);
    expect(answer.coverage.missing.map(({ shard }) => shard)).toContain('wiki@1.0.0/b');
  });

  test('goes to another copy when one ends', async () => {
    writeFileSync(live('a', 'exits'), '');
    expect(await result('wiki.exit')).toEqual(['wiki@1.0.0/a', 'wiki@1.0.0/b', 'wiki@1.0.0/c']);
    await until('the index to be whole again', async () => (await result('wiki.total', { word: 'the' })) === 3);
  });
});

describe('The metrics of a process', () => {
  /** Values by name and labels. */
  async function scrape(): Promise<ReadonlyMap<string, number>> {
    const text = await (await fetch(`${mesh.addresses.stats}/metrics`)).text();
    expect(await promtool(text)).toEqual({ code: 0, said: '' });
    const lines = text.split('\n').filter((line) => /^katamari_(gather|index|shards?|fetch)/.test(line));
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
    );
  }

  test('are those that docs/observability.md lists for indices', async () => {
    const text = await (await fetch(`${mesh.addresses.stats}/metrics`)).text();
    const served = [...text.matchAll(/^# TYPE (katamari_(?:gather|index|shards?|fetch)\w*) (\w+)$/gm)];
    const page = readFileSync(path.join(REPOSITORY, 'docs/observability.md'), 'utf8');
    const [, ofIndices = ''] = /^### Metrics of indices$(.*?)^##/ms.exec(page) ?? [];
    const listed = [...ofIndices.matchAll(/^\| `(katamari_\w+)` \| (\w+) \|/gm)];
    const names = (found: readonly RegExpExecArray[]): string[] =>
      found.map(([, name, type]) => `${name} ${type}`).toSorted();
    expect(names(listed)).toEqual(names(served));
  });

  test('count gathered calls by result, requests, missing shards, and what the manager holds', async () => {
    await until('three shards to be served', async () => (await result('wiki.total', { word: 'the' })) === 3);
    const before = await scrape();
    const calls = (method: string, of: string): string =>
      `katamari_gather_calls_total{index="wiki",version="1.0.0",method="${method}",result="${of}"}`;
    await call('wiki.total', { word: 'the' });
    await call('wiki.total', { word: 'no word' });
    await call('wiki.total', { word: 'the', shards: ['wiki@1.0.0/z'] });
    await lagging('b', 10_000, async () => {
      await call('wiki.total', { word: 'the', shards: ['wiki@1.0.0/b'] });
      // One copy, and so one request, is busy with b.
      await call('wiki.texts', { minCoverage: 0.3, shards: ['wiki@1.0.0/a', 'wiki@1.0.0/b'] });
    });
    const after = await scrape();
    const rise = (name: string): number => (after.get(name) ?? Number.NaN) - (before.get(name) ?? 0);
    const names = ['whole', 'partial', 'exception', 'incomplete', 'failed'];
    expect(names.map((name) => rise(calls('total', name)))).toEqual([1, 0, 1, 1, 1]);
    expect(rise(calls('texts', 'whole')) + rise(calls('texts', 'partial')) + rise(calls('texts', 'incomplete'))).toBe(
      1,
    );
    expect(rise('katamari_gather_requests_total{kind="first"}')).toBeGreaterThanOrEqual(4);
    expect(rise('katamari_gather_missing_shards_total{lack="timed_out"}')).toBeGreaterThanOrEqual(1);
    const version = 'index="wiki",version="1.0.0"';
    expect(after.get(`katamari_index_shards{${version}}`)).toBe(3);
    expect(after.get(`katamari_index_shards_served{${version}}`)).toBe(3);
    expect(after.get(`katamari_shards{${version},state="serving"}`)).toBe(3);
    expect(after.get(`katamari_shards{${version},state="fetching"}`)).toBe(0);
    expect(after.get('katamari_fetch_bytes_total')).toBeGreaterThan(0);
    expect(after.get('katamari_fetches{state="running"}')).toBe(0);
    expect(after.get('katamari_fetches{state="waiting"}')).toBe(0);
  });
});

describe('The stats port', () => {
  const read = async (what: string): Promise<Response> => await fetch(`${mesh.addresses.stats}/${what}`);

  test('tells the state of the shards by manager, and their names', async () => {
    await until('three shards to be served', async () => (await result('wiki.total', { word: 'the' })) === 3);
    const { name } = await mesh.status();
    const { versions } = (await (await read('indices')).json()) as { versions: readonly object[] };
    expect(versions).toEqual([
      {
        name: 'wiki',
        version: '1.0.0',
        contentService: 'Words@^1',
        state: 'complete',
        share: 1,
        entries: 8,
        bytes: expect.any(Number),
        shards: 3,
        served: 3,
        replicas: 1,
        conditions: [],
        managers: [
          {
            name,
            isReachable: true,
            states: '3s',
            bytesDone: expect.any(Number),
            bytesWanted: expect.any(Number),
          },
        ],
        calls: expect.objectContaining({ whole: expect.any(Number) }),
      },
    ]);
    expect(((await (await read('mesh')).json()) as { indices: object }).indices).toMatchObject({ versions: [{}] });
    expect(await (await read('indices/wiki@1.0.0/shards')).json()).toEqual(['a', 'b', 'c']);
    const unknown = await read('indices/wiki@9.0.0/shards');
    expect([unknown.status, await unknown.text()]).toEqual([
      404,
      'There is no wiki@9.0.0; GET /indices lists all versions\n',
    ]);
  });
});

describe('A second version of an index', () => {
  test('is offered when it is whole, gets the calls, and both can be named', async () => {
    expect(failure(await call('wiki.total', { word: 'the' }, { 'katamari-version': '2.0.0' }))).toEqual([
      'no_pool',
      'No pool offers wiki@2.0.0: versions here are 1.0.0 (1 resource)',
    ]);
    await addIndex(client, path.join(folder, 'two'), '2.0.0');
    await until('the new version to get the calls', async () => (await result('wiki.total', { word: 'the' })) === 1);
    expect((await call('wiki.total', { word: 'the' }, { 'katamari-version': '1.0.0' })).result).toBe(3);
    expect((await call('wiki.total', { word: 'the' }, { 'katamari-version': '^1' })).result).toBe(3);
    expect(JSON.parse((await client.get(`${KEYS.routes}wiki`))?.value ?? 'null')).toMatchObject({
      weights: { '2.0.0': 100 },
      by: 'leader',
    });
    expect(mesh.output()).toContain('all 1 shards are served');
    await client.delete(`${KEYS.indices}wiki/2.0.0`);
    await until('the first version to get the calls', async () => (await result('wiki.total', { word: 'the' })) === 3);
  });

  test('that cannot be loaded says how far it is', async () => {
    await addIndex(client, path.join(folder, 'one'), '3.0.0', { contentService: 'Absent', contentRange: '' });
    await until('the version to be known', async () =>
      String((await call('wiki.total', { word: 'the' }, { 'katamari-version': '3.0.0' })).error?.message).startsWith(
        'wiki@3.0.0 is being loaded: 0 of 3 shards are served',
      ),
    );
    expect(await result('wiki.total', { word: 'the' })).toBe(3);
    await client.delete(`${KEYS.indices}wiki/3.0.0`);
  });
});
