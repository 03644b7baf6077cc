// Random bytes for a JSON-RPC port: valid requests, bodies corrupted as text and as values, and invalid HTTP.

import type { Random } from '../kit/tools/random.ts';
import type { GoodCall, Input } from './target.ts';

export function jsonInput(random: Random, calls: readonly GoodCall[]): Input {
  const call = random.pick(calls);
  const [what, bodyOf] = random.pick(BODIES);
  const body = Buffer.from(bodyOf(random, call));
  const isTorn = random.chance(0.35);
  const [how, requestOf] = isTorn ? random.pick(TORN) : (['whole', whole] as const);
  const bytes = requestOf(random, body, call);
  return {
    what: `${how}: ${what}`,
    bytes,
    pieceBytes: random.chance(0.1) ? Math.max(random.between(1, 9), bytes.length >> 5) : 0,
    ending: isTorn ? (random.chance(0.3) ? 'break off' : 'end') : 'wait for an answer',
  };
}

const request = (call: GoodCall, more: object = {}): Record<string, unknown> => ({
  jsonrpc: '2.0',
  id: 1,
  method: `${call.service}.${call.method}`,
  params: call.params,
  ...more,
});

/** Bodies by their defect. */
const BODIES: readonly (readonly [what: string, bodyOf: (random: Random, call: GoodCall) => string | Buffer])[] = [
  ['good', (_random, call) => JSON.stringify(request(call))],
  [
    'good, by position',
    (_random, call) => JSON.stringify(request(call, { params: Object.values(call.params as object) })),
  ],
  ['a notification', (_random, call) => JSON.stringify({ ...request(call), id: undefined })],
  [
    'a batch',
    (random, call) =>
      JSON.stringify(
        Array.from({ length: random.pick([0, 1, 2, 5, 101]) }, (_, id) =>
          request(call, random.chance(0.8) ? { id } : { jsonrpc: '1.0' }),
        ),
      ),
  ],
  [
    'flipped bytes',
    (random, call) => {
      const bytes = Buffer.from(JSON.stringify(request(call)));
      for (let flips = random.between(1, 4); flips > 0; flips--) bytes[random.below(bytes.length)] = random.below(256);
      return bytes;
    },
  ],
  [
    'cut short',
    (random, call) => {
      const text = JSON.stringify(request(call));
      return text.slice(0, random.below(text.length));
    },
  ],
  [
    'another id',
    (random, call) =>
      JSON.stringify(request(call, { id: random.pick([null, '', 'x'.repeat(5_000), 1.5, -1, 1e300, true, {}, []]) })),
  ],
  [
    'another method',
    (random, call) =>
      JSON.stringify(
        request(call, {
          method: random.pick([
            '',
            '.',
            '__proto__',
            `${call.service}.`,
            `${call.service}.constructor`,
            `${call.service}@99.${call.method}`,
            'rpc.discover',
            'rpc.x',
            7,
            null,
            ['a'],
            'x'.repeat(70_000),
          ]),
        }),
      ),
  ],
  ['other params', (random, call) => JSON.stringify(request(call, { params: anyValue(random, 4) }))],
  [
    'one param spoilt',
    (random, call) => {
      const params = { ...(call.params as Record<string, unknown>) };
      const names = Object.keys(params);
      params[names.length > 0 && random.chance(0.9) ? random.pick(names) : 'stranger'] = anyValue(random, 3);
      return JSON.stringify(request(call, { params }));
    },
  ],
  [
    'dangerous keys',
    (_random, call) =>
      `{"jsonrpc":"2.0","id":1,"method":${JSON.stringify(`${call.service}.${call.method}`)},"__proto__":{"x":1},"params":{"__proto__":{"a":1},"constructor":2,"toString":3}}`,
  ],
  [
    'deep nesting',
    (random, call) => {
      const levels = random.pick([10, 63, 64, 65, 1_000, 50_000]);
      const [open, close] = random.pick([
        ['[', ']'],
        ['{"a":', '}'],
      ] as const);
      const value = `${open.repeat(levels)}1${random.chance(0.7) ? close.repeat(levels) : ''}`;
      return random.chance(0.5)
        ? value
        : `{"jsonrpc":"2.0","id":1,"method":"${call.service}.${call.method}","params":${value}}`;
    },
  ],
  [
    'numbers',
    (random, call) =>
      JSON.stringify(request(call)).replace(/\d+/g, () =>
        random.pick([
          '1e999',
          '-0',
          '9'.repeat(400),
          '0.1e-400',
          '2147483648',
          '9223372036854775808',
          '1.5',
          'NaN',
          '01',
          '+1',
          '0x10',
        ]),
      ),
  ],
  [
    'text that is no Unicode',
    (_random, call) => Buffer.from(JSON.stringify(request(call)).replace('2.0', '2.0\u00ff\u00c0'), 'latin1'),
  ],
  ['noise', (random) => random.bytes(random.between(0, 300))],
  ['nothing', () => ''],
  ['white space', () => ' \n\t'.repeat(1_000)],
];

function anyValue(random: Random, depth: number): unknown {
  const scalars = [
    null,
    true,
    false,
    0,
    -1,
    1.5,
    2 ** 31,
    -(2 ** 63),
    1e300,
    '',
    'x',
    'NaN',
    '\ud800',
    'ü'.repeat(2_000),
    '9'.repeat(30),
  ];
  if (depth === 0 || random.chance(0.5)) return random.pick(scalars);
  const values = Array.from({ length: random.below(4) }, () => anyValue(random, depth - 1));
  return random.chance(0.5)
    ? values
    : Object.fromEntries(values.map((value, i) => [random.pick(['a', 'text', 'item', 'id', '', `k${i}`]), value]));
}

function whole(random: Random, body: Buffer, call: GoodCall): Buffer {
  const path = random.pick([
    '/rpc',
    '/rpc',
    '/rpc',
    `/rpc/${call.service}`,
    `/rpc/${call.service}@1.0.0`,
    '/rpc/Nobody',
    '/rpc/%00',
    '/rpc/%zz',
  ]);
  const headers = random.chance(0.2)
    ? random.pick([
        'katamari-timeout-ms: -1',
        'katamari-timeout-ms: 1e9',
        'katamari-timeout-ms: 200',
        'katamari-version: ][',
        `katamari-key: ${'k'.repeat(3_000)}`,
        'traceparent: 00-x',
        'katamari-tags: ,,,',
        'content-type: text/plain',
        'origin: http://elsewhere.example',
        'expect: 100-continue',
        'accept-encoding: *;q=0',
      ]) + '\r\n'
    : '';
  return Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nhost: localhost\r\n${headers}content-length: ${body.length}\r\n\r\n`),
    body,
  ]);
}

/** Incomplete requests and non-HTTP bytes; no answer is awaited. */
const TORN: readonly (readonly [how: string, requestOf: (random: Random, body: Buffer, call: GoodCall) => Buffer])[] = [
  [
    'half sent',
    (random, body, call) => {
      const bytes = whole(random, body, call);
      return bytes.subarray(0, random.below(bytes.length));
    },
  ],
  [
    'longer than declared',
    (random, body) =>
      lines(body, 'POST /rpc HTTP/1.1', 'host: localhost', `content-length: ${random.below(body.length + 1)}`),
  ],
  [
    'shorter than declared',
    (_random, body) => lines(body, 'POST /rpc HTTP/1.1', 'host: localhost', `content-length: ${body.length + 10}`),
  ],
  [
    'declared as huge',
    (random, body) =>
      lines(
        body,
        'POST /rpc HTTP/1.1',
        'host: localhost',
        `content-length: ${random.pick(['99999999999999999999', '17000000', '-1', 'x', '1, 2', '0x10'])}`,
      ),
  ],
  [
    'two lengths',
    (_random, body) =>
      lines(body, 'POST /rpc HTTP/1.1', 'host: localhost', `content-length: ${body.length}`, 'content-length: 1'),
  ],
  [
    'length and chunks',
    (_random, body) =>
      lines(body, 'POST /rpc HTTP/1.1', 'host: localhost', 'content-length: 3', 'transfer-encoding: chunked'),
  ],
  [
    'chunked',
    (random, body) => {
      const half = random.below(body.length + 1);
      const chunk = (part: Buffer): Buffer =>
        Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')]);
      const chunks = Buffer.concat(
        [body.subarray(0, half), body.subarray(half)].filter((part) => part.length > 0).map(chunk),
      );
      return lines(
        Buffer.concat([chunks, Buffer.from('0\r\n\r\n')]),
        'POST /rpc HTTP/1.1',
        'host: localhost',
        'transfer-encoding: chunked',
      );
    },
  ],
  [
    'broken chunks',
    (random, body) =>
      lines(
        Buffer.concat([Buffer.from(random.pick(['zz\r\n', 'ffffffffffff\r\n', '-1\r\n', '5\r\nab'])), body]),
        'POST /rpc HTTP/1.1',
        'host: localhost',
        'transfer-encoding: chunked',
      ),
  ],
  [
    'too many headers',
    (random) =>
      lines(
        Buffer.alloc(0),
        'GET / HTTP/1.1',
        'host: localhost',
        ...Array.from({ length: random.pick([90, 110, 3_000]) }, (_, i) => `x-${i}: y`),
      ),
  ],
  [
    'a long header',
    (random) => lines(Buffer.alloc(0), 'GET / HTTP/1.1', `x: ${'y'.repeat(random.pick([8_000, 20_000, 200_000]))}`),
  ],
  [
    'a long path',
    (random) =>
      lines(Buffer.alloc(0), `GET /${'y'.repeat(random.pick([8_000, 20_000, 200_000]))} HTTP/1.1`, 'host: localhost'),
  ],
  [
    'another method',
    (random, body) =>
      lines(
        body,
        `${random.pick(['GET', 'PUT', 'HEAD', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE', 'BREW', ''])} /rpc HTTP/1.1`,
        'host: localhost',
        `content-length: ${body.length}`,
      ),
  ],
  [
    'another path',
    (random) =>
      lines(
        Buffer.alloc(0),
        `GET ${random.pick(['/../../etc/passwd', '/idl/../x', '//', '*', 'http://x/rpc', '/openrpc.json', '/idl/Exchange.thrift', '/idl/%2e%2e'])} HTTP/1.1`,
        'host: localhost',
      ),
  ],
  [
    'another version',
    (random, body) =>
      lines(
        body,
        `POST /rpc HTTP/${random.pick(['1.0', '0.9', '2.0', '9.9', 'x'])}`,
        'host: localhost',
        `content-length: ${body.length}`,
      ),
  ],
  [
    'an upgrade',
    (_random, body) =>
      lines(
        body,
        'GET /rpc HTTP/1.1',
        'host: localhost',
        'connection: upgrade',
        'upgrade: websocket',
        'sec-websocket-key: x',
      ),
  ],
  [
    'bare line ends',
    (_random, body) =>
      Buffer.from(
        `POST /rpc HTTP/1.1\nhost: localhost\ncontent-length: ${body.length}\n\n${body.toString('latin1')}`,
        'latin1',
      ),
  ],
  [
    'pipelined',
    (random, body, call) =>
      Buffer.concat([whole(random, body, call), whole(random, body, call), whole(random, body, call)]),
  ],
  ['noise', (random) => random.bytes(random.between(1, 400))],
  ['Thrift', (_random, _body, call) => Buffer.concat([Buffer.from('0000001880010001', 'hex'), call.args])],
];

function lines(body: Buffer, ...head: readonly string[]): Buffer {
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}
