// Hostile HTTP for any HTTP port: a request that the port understands, with its parts and its bytes corrupted.

import type { Random } from '../kit/tools/random.ts';
import { endingOf, mutated, pieceBytesOf } from './mutate.ts';
import type { Input } from './target.ts';

/** A request that the port understands. */
export interface HttpRequest {
  readonly method: string;
  readonly target: string;
  readonly headers?: readonly string[];
  readonly body?: Buffer;
}

export function httpInput(random: Random, request: HttpRequest): Input {
  const count = random.chance(0.85) ? 1 : random.between(2, 6);
  const [how, written] = random.chance(0.7) ? (['whole', whole] as const) : random.pick(TORN);
  const one = written(random, request);
  const { what, bytes } = mutated(random, count === 1 ? one : Buffer.concat(Array.from({ length: count }, () => one)));
  return {
    what: `${count} ${how}, ${what}: ${request.method} ${request.target.slice(0, 80)}`,
    bytes,
    pieceBytes: pieceBytesOf(random, bytes.length),
    ending: endingOf(random),
  };
}

function whole(random: Random, request: HttpRequest): Buffer {
  const odd = random.chance(0.15) ? [random.pick(ODD_HEADERS)] : [];
  return framed(request, ...odd, `content-length: ${(request.body ?? EMPTY).length}`);
}

/** A request for this port with some more headers. */
function framed({ method, target, headers = [], body = EMPTY }: HttpRequest, ...more: readonly string[]): Buffer {
  return head(body, `${method} ${target} HTTP/1.1`, 'host: localhost', ...headers, ...more);
}

type Writer = (random: Random, request: HttpRequest) => Buffer;

const TORN: readonly (readonly [how: string, write: Writer])[] = [
  [
    'another Host',
    (random, { method, target, headers = [], body = EMPTY }) =>
      head(
        body,
        `${method} ${target} HTTP/1.1`,
        `host: ${random.pick(['evil.example', '', '127.0.0.1:1', '[::1', 'localhost\0', 'a'.repeat(300)])}`,
        ...headers,
        `content-length: ${body.length}`,
      ),
  ],
  [
    'no Host',
    (_random, { method, target, headers = [], body = EMPTY }) =>
      head(body, `${method} ${target} HTTP/1.1`, ...headers, `content-length: ${body.length}`),
  ],
  [
    'a false length',
    (random, request) => {
      const { body = EMPTY } = request;
      const length = random.pick([
        body.length + 10,
        body.length - 1,
        0,
        '99999999999999999999',
        '17000000',
        '-1',
        'x',
        '1, 2',
        '0x10',
      ]);
      return framed(request, `content-length: ${length}`);
    },
  ],
  [
    'two lengths',
    (_random, request) => framed(request, `content-length: ${(request.body ?? EMPTY).length}`, 'content-length: 1'),
  ],
  ['length and chunks', (_random, request) => framed(request, 'content-length: 3', 'transfer-encoding: chunked')],
  [
    'chunked',
    (random, { method, target, headers = [], body = EMPTY }) => {
      const half = random.below(body.length + 1);
      const parts = [body.subarray(0, half), body.subarray(half)].filter((part) => part.length > 0);
      const chunks = parts.flatMap((part) => [
        Buffer.from(`${part.length.toString(16)}\r\n`),
        part,
        Buffer.from('\r\n'),
      ]);
      return head(
        Buffer.concat([
          ...chunks,
          Buffer.from(random.pick(['0\r\n\r\n', '0\r\nx: y\r\n\r\n', '', 'zz\r\n', 'ffffffffffff\r\n'])),
        ]),
        `${method} ${target} HTTP/1.1`,
        'host: localhost',
        ...headers,
        'transfer-encoding: chunked',
      );
    },
  ],
  [
    'many headers',
    (random, { method, target, headers = [] }) =>
      head(
        EMPTY,
        `${method} ${target} HTTP/1.1`,
        'host: localhost',
        ...headers,
        ...Array.from({ length: random.pick([90, 110, 3_000]) }, (_, i) => `x-${i}: y`),
      ),
  ],
  [
    'a long header',
    (random, { method, target, headers = [] }) =>
      head(
        EMPTY,
        `${method} ${target} HTTP/1.1`,
        'host: localhost',
        ...headers,
        `x: ${'y'.repeat(random.pick([8_000, 20_000, 200_000]))}`,
      ),
  ],
  [
    'a long target',
    (random, { method, target, headers = [] }) =>
      head(
        EMPTY,
        `${method} ${target}${'y'.repeat(random.pick([2_000, 8_000, 20_000, 200_000]))} HTTP/1.1`,
        'host: localhost',
        ...headers,
      ),
  ],
  [
    'another target',
    (random, { headers = [] }) =>
      head(
        EMPTY,
        `GET ${random.pick(['/../../etc/passwd', '//', '*', 'http://x/', 'localhost:80', '/%', '/%00', '/%ff', '/%2e%2e/%2e%2e', '/a\tb', '?', '/\u00ff'])} HTTP/1.1`,
        'host: localhost',
        ...headers,
      ),
  ],
  [
    'another method',
    (random, { target, headers = [], body = EMPTY }) =>
      head(
        body,
        `${random.pick(['GET', 'PUT', 'POST', 'HEAD', 'DELETE', 'OPTIONS', 'PATCH', 'CONNECT', 'TRACE', 'BREW', ''])} ${target} HTTP/1.1`,
        'host: localhost',
        ...headers,
        `content-length: ${body.length}`,
      ),
  ],
  [
    'another version',
    (random, { method, target, headers = [], body = EMPTY }) =>
      head(
        body,
        `${method} ${target} HTTP/${random.pick(['1.0', '0.9', '2.0', '9.9', 'x'])}`,
        'host: localhost',
        ...headers,
        `content-length: ${body.length}`,
      ),
  ],
  [
    'an upgrade',
    (_random, { target, headers = [] }) =>
      head(
        EMPTY,
        `GET ${target} HTTP/1.1`,
        'host: localhost',
        ...headers,
        'connection: upgrade',
        'upgrade: websocket',
        'sec-websocket-key: x',
      ),
  ],
  [
    'bare line ends',
    (_random, { method, target, headers = [], body = EMPTY }) =>
      Buffer.concat([
        Buffer.from(
          `${[`${method} ${target} HTTP/1.1`, 'host: localhost', ...headers, `content-length: ${body.length}`].join('\n')}\n\n`,
          'latin1',
        ),
        body,
      ]),
  ],
  [
    'expects to continue',
    (_random, request) => framed(request, 'expect: 100-continue', `content-length: ${(request.body ?? EMPTY).length}`),
  ],
];

const ODD_HEADERS: readonly string[] = [
  'origin: http://elsewhere.example',
  'sec-fetch-site: cross-site',
  'accept-encoding: *;q=0, gzip, br',
  'if-none-match: W/"x", *',
  'if-modified-since: yesterday',
  'range: bytes=0-0,5-1,-1',
  'range: bytes=999999999-',
  'connection: close',
  'connection: keep-alive, upgrade',
  'content-type: multipart/form-data',
  'content-encoding: gzip',
  'authorization: Bearer',
  'authorization: Bearer a.b.c',
  'authorization: Bearer eyJhbGciOiJub25lIn0.e30.',
  'traceparent: nonsense',
  'x-forwarded-for: 1.2.3.4',
  'transfer-encoding: gzip, chunked',
  'cookie: \x01',
  'te: trailers',
];

function head(body: Buffer, ...lines: readonly string[]): Buffer {
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body]);
}

const EMPTY: Buffer = Buffer.alloc(0);
