// Hostile calls of an index: queries, cursors, counts and sort keys that cannot be, as JSON-RPC, and the right
// ones, which the Thrift lane changes; the control of shards at the socket of a content server.

import { encodeParams } from '../../core/idl/mod.ts';
import { contentInterface } from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import type { Random } from '../kit/tools/random.ts';
import { endingOf, mutated, pieceBytesOf } from './mutate.ts';
import type { GoodCall, Input } from './target.ts';

/** Right calls of the index `wiki`. @param cursor of an answer */
export function searchCalls(content: Interface, cursor: string): GoodCall[] {
  const id = { shard: 'wiki@1.0.0/part-00000', document: 1 };
  const statistics = new Map([['df:alpha', 3]]);
  const calls: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
    ['search', { query: 'alpha beta', count: 3, fields: ['*'] }],
    ['search', { query: 'alpha', count: 2, sort: [{ field: 'id', descending: true }, { field: '_score' }] }],
    ['search', { query: 'alpha', count: 2, after: cursor }],
    ['search', { query: 'al* OR "alpha beta"', filter: 'beta', statistics, minCoverage: 0.5 }],
    ['count', { query: 'alpha NOT beta', shards: ['wiki@1.0.0/part-00001'] }],
    ['statistics', { query: 'alpha' }],
    ['documents', { ids: [id, id] }],
    ['explain', { query: 'alpha', id }],
  ];
  return calls.map(([method, params]) => callOf('wiki', content, method, params));
}

/** Right control calls for a content server; none is about a shard of `wiki`. */
export function contentControlCalls(): GoodCall[] {
  const shard = 'other@1.0.0/part-00000';
  return [
    callOf('katamari.Content', contentInterface(), 'open', { shard, path: '/nowhere' }),
    callOf('katamari.Content', contentInterface(), 'open', { shard, path: '/etc/hostname' }),
    callOf('katamari.Content', contentInterface(), 'close', { shard }),
    callOf('katamari.Content', contentInterface(), 'shards', {}),
  ];
}

function callOf(service: string, of: Interface, method: string, params: Readonly<Record<string, unknown>>): GoodCall {
  return { service, method, params, args: encodeParams(of.methods.get(method) as Method, params) };
}

/** JSON-RPC with arguments that are changed. */
export function searchInput(random: Random, calls: readonly GoodCall[], cursor: string): Input {
  const { service, method, params } = random.pick(calls);
  const changed: Record<string, unknown> = { ...(params as object) };
  for (let changes = random.below(4); changes > 0; changes--) {
    const [name, valueOf] = random.pick(ARGUMENTS);
    changed[name] = valueOf(random, cursor);
  }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: `${service}.${method}`, params: changed });
  const head = `POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: `;
  return {
    what: `${method} ${body.slice(0, 160)}`,
    bytes: Buffer.from(`${head}${Buffer.byteLength(body)}\r\n\r\n${body}`),
    pieceBytes: pieceBytesOf(random, body.length),
    ending: endingOf(random),
  };
}

const NUMBERS = [0, -1, 1, 10_000, 10_001, 2 ** 31 - 1, -(2 ** 31), 2 ** 53, 0.5, 1e300, null, '7', [], {}];

const ARGUMENTS: readonly (readonly [name: string, valueOf: (random: Random, cursor: string) => unknown])[] = [
  ['query', queryOf],
  ['query', queryOf],
  ['filter', queryOf],
  ['after', cursorOf],
  ['after', cursorOf],
  ['count', (random) => random.pick(NUMBERS)],
  ['minCoverage', (random) => random.pick([...NUMBERS, 1.0001, -0.1, 'NaN', 'Infinity'])],
  ['shards', (random) => random.pick([[], [''], ['wiki@1.0.0/none'], ['x'.repeat(9_000)], 'wiki', null, [null]])],
  ['fields', (random) => random.pick([[], ['*'], [''], ['__proto__'], Array(20_000).fill('id'), 7, null])],
  [
    'sort',
    (random) =>
      Array.from({ length: random.pick([0, 1, 2, 17, 1_000]) }, () => ({
        field: random.pick(['id', '_score', '_document', '', 'none', '__proto__', 'x'.repeat(5_000)]),
        descending: random.pick([true, false, null, 1]),
      })),
  ],
  ['statistics', (random) => random.pick([{}, { 'df:alpha': -1 }, { docs: 2 ** 53 }, { __proto__: 1 }, [], null, 'x'])],
  [
    'ids',
    (random) =>
      random.pick([
        [],
        [{ shard: '', document: -1 }],
        [{ shard: 'wiki@1.0.0/part-00000', document: 2 ** 53 }],
        Array.from({ length: 11_000 }, () => ({ shard: 'wiki@1.0.0/part-00000', document: 1 })),
        [null],
      ]),
  ],
];

function queryOf(random: Random): unknown {
  const words = [
    'alpha',
    'beta',
    'AND',
    'OR',
    'NOT',
    '(',
    ')',
    '"',
    '*',
    'al*',
    'id:',
    'none:x',
    '\u0000',
    '𝕏',
    "'",
    ';',
    '-',
  ];
  return random.pick<() => unknown>([
    () => Array.from({ length: random.between(0, 12) }, () => random.pick(words)).join(' '),
    () => Array.from({ length: random.between(0, 12) }, () => random.pick(words)).join(''),
    () => random.pick(words).repeat(random.pick([1, 100, 2_000, 9_000])),
    () => Array.from({ length: 1_100 }, (_, at) => `w${at}`).join(' OR '),
    () => '('.repeat(random.pick([99, 101, 4_000])),
    () => random.bytes(random.below(200)).toString('latin1'),
    () => random.pick(['', ' ', null, 7, [], {}]),
  ])();
}

/** A cursor is base64url of a struct. */
function cursorOf(random: Random, cursor: string): unknown {
  if (random.chance(0.2)) return random.pick(['', 'x', '=', null, 7, 'A'.repeat(100_000), '%00']);
  return mutated(random, Buffer.from(cursor, 'base64url')).bytes.toString('base64url');
}
