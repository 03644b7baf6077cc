// The same search, asked in every way that the mesh has: stock Python clients in several protocols, a stock C++ client,
// JSON-RPC, the TypeScript client, and a chassis that asks for its own callers. All get the same hits, and the scores
// are equal to the last bit, because doubles travel as they are or as their shortest exact decimal.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect, ThriftException, type Mesh } from '../../client/mod.ts';
import { buildShards } from '../../content-servers/text/mod.ts';
import { scriptCommand } from '../../core/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';
import { generate, type Generated } from '../kit/wire/thrift-client.ts';

type Values = Readonly<Record<string, unknown>>;

/** What a call gave: a result as JSON-RPC prints it, or the name and the fields of a declared exception. */
interface Answer {
  readonly result?: unknown;
  readonly exception?: string;
  readonly why?: string;
  readonly at?: number;
}

interface Found {
  readonly total: number;
  readonly hits: readonly { readonly shard: string; readonly document: number; readonly score: number }[];
  readonly cursor: string;
}

/** One way to ask the index. */
interface Way {
  call(method: string, args: Values): Promise<Answer>;
  close(): void;
}

const IDL = path.join(REPOSITORY, 'idl/search.thrift');
const WORDS = ['alice', 'rabbit', 'hole', 'queen', 'hatter', 'tea', 'cat', 'king', 'garden', 'dream'];
const DOCUMENTS = 200;
const SHARDS = 4;
let folder: string;
let mesh: MeshProcess;
let generated: Generated;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-ways-'));
  const file = path.join(folder, 'documents.ndjson');
  writeFileSync(file, Array.from({ length: DOCUMENTS }, (_, id) => JSON.stringify(documentOf(id))).join('\n'));
  await buildShards({ inputs: [file], output: path.join(folder, 'wiki'), shards: SHARDS });
  mesh = await startMeshProcess({
    directory: folder,
    settings: { timeout: '5s' },
    deployments: [
      work({
        service: 'TextSearch',
        command: scriptCommand(path.join(REPOSITORY, 'content-servers/text/main.ts')),
        count: 2,
      }),
      work({ service: 'Librarian', command: fixture('librarian.ts'), count: 1 }),
    ],
  });
  const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
  const consul = consulClient({
    address: mesh.addresses.consul,
    token: mesh.consulToken,
    signer: documentSigner('test', () => [secret]),
  });
  await addIndex(consul, path.join(folder, 'wiki'), '1.0.0', { contentService: 'TextSearch' });
  generated = await generate(IDL);
  await until(
    'the index to be served',
    async () => (await mesh.call('wiki.count', { query: 'rabbit' })).result !== undefined,
  );
}, 120_000);

afterAll(async () => {
  await mesh?.end();
  generated?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** Words with different frequencies, and a stored field of each type. */
function documentOf(id: number): Values {
  const text = WORDS.filter((_, at) => id % (at + 2) === 0)
    .flatMap((word, at) => Array(1 + ((id + at) % 3)).fill(word))
    .join(' ');
  const bytes = { $binary: Buffer.of(id, 0xff, 0).toString('base64') };
  return { text: text || 'nothing', id, price: id / 7, bytes };
}

const thriftPort = (): string => mesh.addresses.thrift.split(':').at(-1) ?? '';

/** A stock Python client, which answers line by line. */
class PythonWay implements Way {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(how: string, fill: 'none' | 'empty') {
    const program = path.join(REPOSITORY, 'test/fixtures/client/search_client.py');
    const env = { ...process.env, PYTHONPATH: path.join(generated.directory, 'gen-py') };
    const child = spawn('/usr/bin/python3', [program, thriftPort(), how, 'wiki', fill], { env, timeout: PYTHON_MS });
    child.stderr.setEncoding('utf8').on('data', (part: string) => (this.#errors += part));
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async call(method: string, args: Values): Promise<Answer> {
    this.#child.stdin?.write(`${JSON.stringify({ method, args })}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`The Python client ended: ${this.#errors}`);
    return JSON.parse(value) as Answer;
  }

  close(): void {
    this.#child.stdin?.end();
    this.#child.kill();
  }
}

const jsonRpcWay = (): Way => ({
  async call(method, args) {
    const { result, error } = await mesh.call(`wiki.${method}`, args);
    if (error === undefined) return { result };
    if (error.data?.['exception'] === undefined) throw new Error(error.message);
    return error.data as Answer;
  },
  close: () => undefined,
});

/** The TypeScript client. @param more arguments that every call gets */
function clientWay(service: string, more: Values = {}): Way {
  const client: Mesh = connect({ addresses: mesh.addresses.thrift });
  return {
    async call(method, args) {
      try {
        return { result: plain(await client.service(service)[method]?.({ ...more, ...args })) };
      } catch (error) {
        if (!(error instanceof ThriftException)) throw error;
        return { exception: error.exception, ...(plain(error.fields) as Values) };
      }
    },
    close: () => client.close(),
  };
}

/** A decoded value as JSON-RPC would print it. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, one]) => [key as string, plain(one)]));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}

const WAYS: Readonly<Record<string, () => Way>> = {
  'Python, framed binary': () => new PythonWay('binary', 'none'),
  'Python, framed compact': () => new PythonWay('compact', 'none'),
  'Python, framed JSON protocol': () => new PythonWay('json', 'none'),
  'Python, THeader': () => new PythonWay('header', 'none'),
  'Python, HTTP': () => new PythonWay('http', 'none'),
  'Python that writes empty lists for what it leaves out': () => new PythonWay('binary', 'empty'),
  'the TypeScript client': () => clientWay('wiki'),
  'a chassis with ctx.call': () => clientWay('Librarian', { index: 'wiki' }),
};

const QUERIES = ['rabbit', 'rabbit hole', 'queen OR king', '"alice alice"', 'ca*', '(cat OR dream) garden', 'absent'];
const SEARCH = { count: 12, after: '', fields: ['*'] };

/** A result without what may differ from call to call. */
function seen({ result }: Answer): unknown {
  const { coverage, ...found } = result as Found & { readonly coverage?: Values };
  return { ...found, coverage: { shards: coverage?.['shards'], complete: coverage?.['complete'] } };
}

async function using<T>(way: Way, act: (way: Way) => Promise<T>): Promise<T> {
  try {
    return await act(way);
  } finally {
    way.close();
  }
}

async function pagesBy(way: Way, query: string, count: number): Promise<Found['hits']> {
  const hits: Found['hits'][number][] = [];
  let after = '';
  do {
    const { result } = await way.call('search', { query, count, after, fields: [] });
    hits.push(...(result as Found).hits);
    after = (result as Found).cursor;
  } while (after !== '' && hits.length <= DOCUMENTS);
  return hits;
}

const idsOf = ({ hits }: Found): unknown => hits.map(({ shard, document }) => ({ shard, document }));

describe.each(Object.entries(WAYS))('Asked by %s', (_, start) => {
  test('a search has the hits of JSON-RPC, with the same fields, and scores equal to the last bit', () =>
    using(start(), async (way) => {
      for (const query of QUERIES) {
        const expected = seen(await jsonRpcWay().call('search', { query, ...SEARCH }));
        expect(seen(await way.call('search', { query, ...SEARCH }))).toEqual(expected);
        // Now the statistics are known, and one trip less is made.
        expect(seen(await way.call('search', { query, ...SEARCH }))).toEqual(expected);
        expect(await way.call('count', { query })).toMatchObject(await jsonRpcWay().call('count', { query }));
      }
      expect(haveAllDigits(await jsonRpcWay().call('search', { query: 'rabbit', ...SEARCH }))).toBe(true);
    }));

  test('documents of a search are found by their ids', () =>
    using(start(), async (way) => {
      const found = (await way.call('search', { query: 'rabbit', ...SEARCH })).result as Found;
      const { result } = await way.call('documents', { ids: idsOf(found), fields: ['*'] });
      const expected = await jsonRpcWay().call('documents', { ids: idsOf(found), fields: ['*'] });
      expect((result as unknown[]).length).toBe(SEARCH.count);
      expect(result).toEqual(expected.result);
    }));

  test('pages have every hit once', () =>
    using(start(), async (way) => {
      const query = 'rabbit OR queen';
      const whole = (await jsonRpcWay().call('search', { query, count: DOCUMENTS, fields: [] })).result as Found;
      expect(whole.hits.length).toBeGreaterThan(50);
      expect(await pagesBy(way, query, 17)).toEqual(whole.hits);
    }));

  test('a wrong query throws BadQuery with its place', () =>
    using(start(), async (way) => {
      const query = 'rabbit AND (hole';
      const { exception, why, at } = await jsonRpcWay().call('search', { query, ...SEARCH });
      expect(exception).toBe('BadQuery');
      expect(await way.call('search', { query, ...SEARCH })).toMatchObject({ exception, why, at });
      expect(await way.call('count', { query })).toMatchObject({ exception, why, at });
    }));
});

/** Whether the scores need all their digits, so that the comparison says something. */
function haveAllDigits({ result }: Answer): boolean {
  return (result as Found).hits.every(({ score }) => score > 0 && Math.fround(score) !== score);
}

test('a search that is sorted by fields is the same in Python, with values of every type', async () => {
  const args = { query: 'rabbit', ...SEARCH, sort: [{ field: 'price', descending: true }, { field: 'bytes' }] };
  const expected = seen(await jsonRpcWay().call('search', args)) as { readonly hits: readonly Values[] };
  // A search that does not count scores has none: NaN, which JSON-RPC prints as text.
  const hits = expected.hits.map((hit) => ({ ...hit, score: null }));
  const found = await using(new PythonWay('compact', 'none'), async (way) => seen(await way.call('search', args)));
  expect(found).toEqual({ ...expected, hits });
});

test('the coverage is in a header of THeader and of JSON-RPC where the result has no room for it', async () => {
  const shards = ['wiki@1.0.0/part-00000', 'wiki@1.0.0/part-00002'];
  await using(new PythonWay('header', 'none'), async (way) => {
    expect(await way.call('count', { query: 'rabbit' })).toMatchObject({ coverage: `${SHARDS}/${SHARDS}` });
    expect(await way.call('count', { query: 'rabbit', shards })).toMatchObject({ coverage: '2/2' });
    expect(await way.call('search', { query: 'rabbit', ...SEARCH })).toMatchObject({ coverage: `${SHARDS}/${SHARDS}` });
    expect(await way.call('count', { query: 'rabbit AND (' })).toMatchObject({ coverage: '' });
  });
  const { headers } = await mesh.call('wiki.count', { query: 'rabbit', shards });
  expect([headers.get('katamari-coverage'), headers.get('katamari-version')]).toEqual(['2/2', '1.0.0']);
  const wrong = await mesh.call('wiki.count', { query: 'rabbit AND (' });
  expect([wrong.headers.get('katamari-coverage'), wrong.headers.get('katamari-version')]).toEqual([null, '1.0.0']);
  const other = await mesh.call('Librarian.count', { index: 'wiki', query: 'rabbit' });
  expect([other.result, other.headers.get('katamari-coverage')]).toEqual([expect.any(Number), null]);
});

test('a C++ client, whose code writes every parameter, gets the same hits and scores', async () => {
  const thrift = ['-r', '-out', folder, '--gen', 'cpp:no_skeleton', IDL];
  await run(toolPath('thrift'), ['-nowarn', ...thrift]);
  const client = path.join(REPOSITORY, 'test/fixtures/client/search_client.cpp');
  const compile = `g++ -std=c++17 -I. '${client}' *.cpp -lthrift -o search_client`;
  await run('sh', ['-c', compile], { cwd: folder, timeout: COMPILE_MS });
  const args = [thriftPort(), 'wiki', 'rabbit hole', '12'];
  const { stdout } = await run(path.join(folder, 'search_client'), args, { timeout: PYTHON_MS });
  const { result } = await jsonRpcWay().call('search', { query: 'rabbit hole', count: 12 });
  const { total, hits } = result as Found;
  expect(stdout.trim().split('\n')).toEqual([
    String(total),
    ...hits.map(({ shard, document, score }) => `${shard} ${document} ${bitsOf(score)}`),
    String(total),
    expect.stringMatching(/^BadQuery \d+$/) as string,
  ]);
}, 240_000);

function bitsOf(score: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(score);
  return bytes.readBigUInt64BE().toString();
}

const run = promisify(execFile);
const PYTHON_MS = 60_000;
const COMPILE_MS = 200_000;
