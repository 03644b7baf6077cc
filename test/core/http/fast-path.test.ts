// The fast path in front of `node:http` for ordinary POST requests. Its responses are identical to those of
// `node:http`, and every limit applies to it too. On runtimes without a fast path there is nothing to compare;
// test/core/http/server.test.ts covers `node:http` everywhere.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { cut, exchangeBytes } from '../../kit/wire/http-bytes.ts';
import { readFastHead } from '../../../core/http/fast-head.ts';
import {
  clientSignal,
  requestBody,
  serveHttp,
  type HttpServer,
  type ServeHttpOptions,
  type FastApp,
} from '../../../core/http/mod.ts';
import type { HttpServerLimits } from '../../../core/http/server.ts';
import { httpTakesSockets, DEFAULT_LIMITS } from '../../../core/mod.ts';
import type { HeadersIn } from '../../../core/thrift/mod.ts';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
/** Requests answered on the fast path. */
let direct = 0;

/** Both servers report the request in the same format. */
const words = (path: string, host: string | undefined, body: string): string => `${path} of ${host}: ${body}`;
const TYPE = 'text/plain; charset=utf-8';

/** Requests as the servers parsed them. */
const requestLine = (method = '', url = '', headers: HeadersIn = {}): string =>
  `${method} ${url} of ${String(headers['host'])}, ${String(headers['content-length'])} bytes`;

const servers: HttpServer[] = [];
async function start(
  limits: Partial<HttpServerLimits>,
  served: string[] = [],
  isInFront = false,
  other?: FastApp,
): Promise<HttpServer> {
  const fetch: ServeHttpOptions['fetch'] = (request, env) => {
    const { method, url, headers } = env.incoming;
    served.push(requestLine(method, url, headers));
    const path = new URL(request.url).pathname;
    const body = requestBody(env).toString('latin1');
    const text = method === 'POST' ? words(path, headers.host, body) : `${method} of ${path}`;
    const length = String(Buffer.byteLength(text));
    return new Response(text, { headers: { 'content-type': TYPE, 'content-length': length, 'katamari-version': '1' } });
  };
  const posts: FastApp = {
    handlerOf: ({ path, headers }) =>
      path === '/elsewhere'
        ? undefined
        : (body, place) => {
            direct++;
            served.push(requestLine('POST', path, headers));
            place.answer(200, TYPE, { 'katamari-version': '1' }, words(path, headers['host'], body.toString('latin1')));
          },
  };
  const server = await serveHttp({
    fetch,
    host: '127.0.0.1',
    port: 0,
    limits: { ...DEFAULT_LIMITS, ...limits },
    access: { hosts: ['x'], origins: [] },
    ...(isInFront ? { posts: other ?? posts } : {}),
  });
  servers.push(server);
  return server;
}
async function end(): Promise<void> {
  for (const server of servers.splice(0)) await server.close();
}

const post = (body: string, more = '', path = '/rpc'): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${more}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

describe.skipIf(!httpTakesSockets())('Two servers, one with the fast path and one without, answer the same', () => {
  // Every connection ends: by the input, by a request that is not complete in time, or by the idle timeout. The times
  // are long enough for a busy machine, on which 300 connections at once may stand still for half a second.
  const LIMITS = { requestMs: 2_000, idleMs: 2_500, frameBytesMax: 5_000, headersMax: 12 };
  let plainServer: HttpServer;
  beforeAll(async () => {
    plainServer = await start(LIMITS);
  });
  afterAll(end);

  /** Sends the same bytes to both, and to a bare `node:http` that only records the requests it sees. */
  async function compare(what: string, bytes: Uint8Array, places: readonly number[] = []): Promise<void> {
    const pieces = cut(bytes, places);
    const [[inFront, served], plain, { seen, isBroken }] = await Promise.all([
      exchangeInFront(pieces),
      exchangeBytes(plainServer.port, pieces),
      requestsIn(pieces),
    ]);
    const told = { what, pieces: pieces.map((piece) => Buffer.from(piece).toString('latin1')) };
    // No request that `node:http` would not have seen in the same way. Requests that it sees and refuses are not
    // served.
    const left = [...seen];
    const invented = served.filter((request) => left.splice(left.indexOf(request) >>> 0, 1).length === 0);
    expect({ ...told, invented }).toEqual({ ...told, invented: [] });
    if (!isBroken && !inFront.includes('HTTP/1.1 400') && !plain.includes('HTTP/1.1 400')) {
      expect({ ...told, got: inFront }).toEqual({ ...told, got: plain });
      return;
    }
    if (inFront === plain) return;
    // When unreadable bytes come right after, `node:http` may drop the answers it has not begun, and may or may not
    // report why.
    const [some, others] = [answersIn(inFront), answersIn(plain)];
    const common = Math.min(some.length, others.length);
    expect({ ...told, got: some.slice(0, common) }).toEqual({ ...told, got: others.slice(0, common) });
    if (what === 'invented') return;
    const refusals = [inFront, plain].map((text) => text.slice(text.indexOf('HTTP/1.1 4')));
    expect({ ...told, got: refusals[0] }).toEqual({ ...told, got: refusals[1] });
  }

  /** With a server of its own: the received bytes and the requests that were answered. */
  async function exchangeInFront(pieces: readonly Uint8Array[]): Promise<[string, string[]]> {
    const served: string[] = [];
    const server = await start(LIMITS, served, true);
    const came = await exchangeBytes(server.port, pieces);
    await server.close();
    return [came, served];
  }

  async function requestsIn(pieces: readonly Uint8Array[]): Promise<{ seen: string[]; isBroken: boolean }> {
    const seen: string[] = [];
    let isBroken = false;
    const server = createServer({ maxHeaderSize: 16_384 }, ({ method, url, headers }) => {
      seen.push(requestLine(method, url, headers));
    });
    server.on('clientError', (_error, socket) => {
      isBroken = true;
      socket.destroy();
    });
    server.setTimeout(LIMITS.requestMs);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    await exchangeBytes((server.address() as AddressInfo).port, pieces);
    await new Promise((resolve) => server.close(resolve));
    return { seen, isBroken };
  }

  /** The answers before a refusal. */
  function answersIn(text: string): string[] {
    const answers = text.split(/(?=HTTP\/1\.1 \d\d\d )/).filter((answer) => answer !== '');
    const refusedAt = answers.findIndex((answer) => answer.startsWith('HTTP/1.1 4'));
    return refusedAt < 0 ? answers : answers.slice(0, refusedAt);
  }

  const FORMS = [
    ['an ordinary one', post('abc')],
    ['several on one connection', post('abc') + post('') + post('x'.repeat(4_000))],
    ['a text that is not ASCII', post('für Käse, 日本')],
    [
      'a host with a port, an address',
      `${post('a').replace('localhost', 'LOCALhost:8080')}${post('b').replace('localhost', '127.0.0.1:1')}`,
    ],
    ['a kept connection, said so', post('a', 'Connection: Keep-Alive\r\nKeep-Alive: 5\r\n')],
    ['one that is the last', post('a', 'Connection: close\r\n') + post('b')],
    ['another method in between', `${post('a')}GET /other HTTP/1.1\r\nHost: x\r\n\r\n${post('b')}`],
    ['a path that is not for it', post('a') + post('b', '', '/elsewhere') + post('c')],
    [
      'a query, escapes, dots',
      post('a', '', '/rpc?x') + post('b', '', '/rpc/%41') + post('c', '', '/rpc/../x') + post('d', '', '//x'),
    ],
    [
      'chunks',
      `${post('a')}POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n${post('b')}`,
    ],
    ['chunks and a length', post('0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n', 'Transfer-Encoding: chunked\r\n')],
    ['two lengths', post('abc', 'Content-Length: 2\r\n')],
    ['the same length twice', post('abc', 'Content-Length: 3\r\n')],
    ['a length with a sign', post('abc').replace('Length: 3', 'Length: +3')],
    ['a length with zeros', post('abc').replace('Length: 3', 'Length: 0003')],
    ['a length of many digits', post('abc').replace('Length: 3', 'Length: 99999999999999999999')],
    ['two hosts', post('abc', 'Host: other\r\n')],
    ['no host', post('abc').replace('Host: localhost\r\n', '')],
    ['a host that is none', post('abc').replace('localhost', '1.2.3.999')],
    ['a host that is another one when read', post('abc').replace('localhost', '0x7f.1')],
    ['no length', 'POST /rpc HTTP/1.1\r\nHost: x\r\n\r\nabc'],
    ['a header twice', post('a', 'A: 1\r\na: 2\r\n')],
    ['a header without a value', post('a', 'A:\r\nB: \r\n')],
    ['a header with spaces around', post('a', 'A:   1  \r\nB:\t2\t\r\n')],
    ['a space before the colon', post('a', 'A : 1\r\n')],
    ['a header over two lines', post('a', 'A: 1\r\n  2\r\n')],
    ['a header of odd names', post('a', 'constructor: 1\r\nX_Y: 2\r\n__proto__: 3\r\n')],
    ['a line feed alone', post('a').replaceAll('\r\n', '\n')],
    ['a line feed alone among others', post('a', 'A: 1\nB: 2\r\n')],
    ['a carriage return alone', post('a', 'A: 1\rB: 2\r\n')],
    ['a NUL', post('a', 'A: \0\r\n')],
    ['bytes above ASCII in a header', post('a', 'A: \xe4\r\n')],
    ['an empty line before', `\r\n${post('a')}`],
    ['an empty line between', `${post('a')}\r\n${post('b')}`],
    ['an older version', post('a').replace('1.1', '1.0')],
    ['a version that is none', post('a').replace('1.1', '1.2')],
    ['two spaces in the first line', post('a').replace('POST /', 'POST  /')],
    ['a wish to upgrade', post('a', 'Connection: upgrade\r\nUpgrade: websocket\r\n')],
    ['a wish to be told to go on', post('a', 'Expect: 100-continue\r\n')],
    ['a page that calls', post('a', 'Origin: https://app.example\r\n')],
    ['a body that is too large', post('x'.repeat(5_001))],
    ['too many headers', post('a', Array.from({ length: 12 }, (_, i) => `h${i}: v\r\n`).join(''))],
    ['headers that are too large', post('a', `A: ${'v'.repeat(20_000)}\r\n`)],
    ['headers that are large', post('a', `A: ${'v'.repeat(9_000)}\r\n`) + post('b')],
    ['no HTTP', 'blah blah\r\n\r\n'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['nothing', ''],
    ['half a head', 'POST /rpc HTTP/1.1\r\nHost: x\r\n'],
    ['half a head behind a request', `${post('a')}POST /rpc HTTP/1.1\r\nHost: x\r\n`],
    ['a head that goes wrong behind a request', `${post('a')}POST /rpc HTTP/1.1\r\nHost: x\r\nA B\r\n\r\n`],
    ['an empty line after a request', `${post('a')}\r\n`],
    ['a part of one', `${post('a')}\r`],
    ['empty lines between requests', `${post('a')}\r\n${post('b')}\r\n\r\n\n\r${post('c')}`],
    ['empty lines before another method', `${post('a')}\r\n\r\nGET /other HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['an empty line before all requests', `\r\n${post('a')}`],
    ['an empty line and nothing else', '\r\n'],
    ['half a body', post('abcdef').slice(0, -3)],
    ['half a body behind a request', post('a') + post('abcdef').slice(0, -3)],
  ] as const;

  test('to requests of every form, whole and in pieces', async () => {
    // Connections take time but no work, so all run at once.
    await Promise.all(
      FORMS.flatMap(([name, text]) => {
        const bytes = Buffer.from(text, text.includes('日') ? 'utf8' : 'latin1');
        return [compare(name, bytes), compare(name, bytes, [3, 20, bytes.length >> 1, Math.max(0, bytes.length - 2)])];
      }),
    );
  });

  test('to requests cut and corrupted at any place', async () => {
    const good = fc.constantFrom(
      post('abc'),
      post('{"a":1}', 'Content-Type: application/json\r\nUser-Agent: test\r\n'),
      post('', 'Authorization: Bearer x\r\n', '/rpc/A@1.0'),
      `GET /x HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    const spoil = fc.record({
      at: fc.nat({ max: 400 }),
      remove: fc.nat({ max: 3 }),
      insert: fc.oneof(
        fc.constantFrom(
          '',
          ' ',
          '\r\n',
          '\n',
          '\r',
          ':',
          '\t',
          '0',
          '\0',
          'Content-Length: 1\r\n',
          'Transfer-Encoding: chunked\r\n',
        ),
        fc.string({ maxLength: 3, unit: 'binary-ascii' }),
      ),
    });
    const cases = fc.record({
      requests: fc.array(good, { minLength: 1, maxLength: 4 }),
      spoils: fc.array(spoil, { maxLength: 2 }),
      cuts: fc.array(fc.nat({ max: 600 }), { maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(cases, { minLength: 100, maxLength: 100 }), async (many) => {
        await Promise.all(
          many.map(({ requests, spoils, cuts }) => {
            let text = requests.join('');
            for (const { at, remove, insert } of spoils) {
              const place = at % (text.length + 1);
              text = text.slice(0, place) + insert + text.slice(place + remove);
            }
            return compare('invented', Buffer.from(text, 'latin1'), cuts);
          }),
        );
      }),
      { numRuns: 6, endOnFailure: true },
    );
    expect(direct).toBeGreaterThan(100);
  }, 120_000);
});

/** A server whose POSTs are answered when the test says so, on the fast path or not. */
async function startGated(limits: Partial<HttpServerLimits> = {}): Promise<Gated> {
  const places: ((text: string) => void)[] = [];
  const gone: string[] = [];
  const posts: FastApp = {
    handlerOf: ({ path }, client) => {
      client.signal.addEventListener('abort', () => gone.push(path));
      return (body, place) => {
        if (path === '/now') place.answer(200, TYPE, {}, body.toString('latin1'));
        else places.push((text) => place.answer(200, TYPE, {}, text));
      };
    },
  };
  const server = await serveHttp({
    fetch: async (request, env) => {
      const { pathname } = new URL(request.url);
      if (env.incoming.method !== 'POST' || pathname === '/now') return new Response(`other ${pathname}`);
      clientSignal(env).addEventListener('abort', () => gone.push(pathname));
      return new Response(await new Promise<string>((resolve) => places.push(resolve)));
    },
    host: '127.0.0.1',
    port: 0,
    limits: { ...DEFAULT_LIMITS, ...limits },
    access: { hosts: ['x'], origins: [] },
    posts,
  });
  servers.push(server);
  return { server, places, gone };
}

interface Gated {
  readonly server: HttpServer;
  /** Requests waiting for their answer. */
  readonly places: ((text: string) => void)[];
  /** Paths of requests whose client has disconnected. */
  readonly gone: string[];
}

const bodiesIn = (text: string): string[] =>
  text
    .split(/HTTP\/1\.1 200 OK\r\n/)
    .slice(1)
    .map((answer) => answer.slice(answer.indexOf('\r\n\r\n') + 4));

describe.skipIf(!httpTakesSockets())('A connection with ordinary POSTs', () => {
  afterEach(end);

  test('is answered in request order, whichever answer is ready first', async () => {
    const { server, places } = await startGated();
    const client = await rawClient(server.port, post('1') + post('2') + post('3'));
    await until('all', () => places.length === 3);
    for (const index of [2, 0, 1]) places[index]?.(`answer ${index}`);
    await client.seen(/answer 2/);
    expect(bodiesIn(client.received())).toEqual(['answer 0', 'answer 1', 'answer 2']);
    client.destroy();
  });

  test('switches to node:http for other requests after the answers in flight, and loses nothing', async () => {
    const { server, places } = await startGated();
    const client = await rawClient(server.port, post('1'));
    await until('the call', () => places.length === 1);
    client.write('GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HT');
    client.write('TP/1.1\r\nHost: x\r\n\r\n');
    client.write(post('2'));
    places[0]?.('answer 1');
    await client.seen(/answer 1[^]*other \/a[^]*other \/b/);
    await until('the call after it', () => places.length === 2);
    places[1]?.('answer 2');
    expect(bodiesIn(await client.seen(/answer 2/))).toEqual(['answer 1', 'other /a', 'other /b', 'answer 2']);
    client.destroy();
    await until('the end', () => server.connections() === 0);
  });

  test('is not read while as many requests as the limit are in flight (backpressure)', async () => {
    const { server, places } = await startGated({ pipelineMax: 4 });
    const client = await rawClient(server.port, post('1').repeat(300) + 'GET /last HTTP/1.1\r\nHost: x\r\n\r\n');
    let most = 0;
    for (let answered = 0; answered < 300; answered++) {
      await until('the next call', () => places.length > answered);
      most = Math.max(most, places.length - answered);
      places[answered]?.(`answer ${answered}`);
    }
    await client.seen(/other \/last/);
    expect(bodiesIn(client.received())).toEqual([
      ...Array.from({ length: 300 }, (_, i) => `answer ${i}`),
      'other /last',
    ]);
    expect(most).toBe(4);
    client.destroy();
  });

  test('is answered after the client has closed its writing side', async () => {
    const { server, places } = await startGated({ pipelineMax: 2 });
    for (const [sent, expected] of [
      [post('1'), ['answer']],
      [post('1').repeat(5), ['answer', 'answer', 'answer', 'answer', 'answer']],
      [`${post('1')}${post('abc').slice(0, -1)}`, ['answer']],
      [`${post('1')}POST /rp`, ['answer']],
      [`${post('1')}GET /a HTTP/1.1\r\nHost: x\r\n\r\n`, ['answer', 'other /a']],
      [
        `${post('1').repeat(3)}GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP`,
        ['answer', 'answer', 'answer', 'other /a'],
      ],
    ] as const) {
      const client = await rawClient(server.port);
      client.socket.end(sent);
      const calls = expected.filter((text) => text === 'answer').length;
      for (let answered = 0; answered < calls; answered++) {
        await until('the call', () => places.length > answered);
        places[answered]?.('answer');
      }
      expect(bodiesIn(await client.closed())).toEqual(expected);
      await until('the end', () => server.connections() === 0);
      places.length = 0;
    }
  });

  test('aborts its calls when the client disconnects, by FIN or by reset', async () => {
    const { server, places, gone } = await startGated();
    for (const leave of ['resetAndDestroy', 'destroy'] as const) {
      const client = await rawClient(server.port, post('1'));
      await until('the call', () => places.length === 1);
      client.socket[leave]();
      await until(`the signal of ${leave}`, () => gone.length === 1);
      await until('the end', () => server.connections() === 0);
      // A late answer to a disconnected client does no harm.
      places.splice(0)[0]?.('late');
      gone.length = 0;
    }
  });

  test('is closed when it sends nothing, stops inside a request, or is idle', async () => {
    const { server } = await startGated({ requestMs: 400, idleMs: 500 });
    const [silent, half, idle] = await Promise.all([
      rawClient(server.port),
      rawClient(server.port, post('abc').slice(0, -1)),
      rawClient(server.port, post('', '', '/now')),
    ]);
    await silent.closed();
    expect(await half.closed()).toMatch(/^HTTP\/1\.1 408 [^]*not complete within 400 ms/);
    expect(await idle.closed()).toMatch(/^HTTP\/1\.1 200 /);
    await until('the end', () => server.connections() === 0);
  });

  test('stays open while a call takes longer than any of these times', async () => {
    const { server, places } = await startGated({ requestMs: 200, idleMs: 200 });
    const client = await rawClient(server.port, post('1'));
    await until('the call', () => places.length === 1);
    await (await rawClient(server.port)).closed();
    await (await rawClient(server.port)).closed();
    places[0]?.('at last');
    expect(await client.seen(/at last/)).toMatch(/^HTTP\/1\.1 200 /);
    await client.closed();
  });

  test('is not read while its client does not read (backpressure), and is closed after a time', async () => {
    const { server, places } = await startGated({ idleMs: 400 });
    const client = await rawClient(server.port);
    client.socket.pause();
    client.write(post('1'));
    await until('the call', () => places.length === 1);
    places[0]?.('x'.repeat(30_000_000));
    client.write(post('2'));
    await until('the end', () => server.connections() === 0);
    expect(places.length).toBe(1);
    client.destroy();
  });

  test('continues where it stopped when its client reads late', async () => {
    const { server, places } = await startGated();
    const client = await rawClient(server.port);
    client.socket.pause();
    client.write(post('1'));
    await until('the call', () => places.length === 1);
    places[0]?.(`${'x'.repeat(5_000_000)} 1`);
    client.write(post('2'));
    client.socket.resume();
    await until('the next call', () => places.length === 2);
    places[1]?.('answer 2');
    await client.seen(/x 1[^]*answer 2/);
    client.destroy();
  });

  test('accepts a body in any number of pieces and refuses one that is too large', async () => {
    const { server, places } = await startGated({ frameBytesMax: 300_000 });
    const body = 'abc'.repeat(90_000);
    const client = await rawClient(server.port);
    for (let at = 0, text = post(body); at < text.length; at += 50_000) {
      client.write(text.slice(at, at + 50_000));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await until('the call', () => places.length === 1);
    places[0]?.('whole');
    await client.seen(/whole/);
    client.write(post('x'.repeat(300_001)));
    expect(await client.closed()).toContain('HTTP/1.1 413 ');
  });

  test('on drain sends its answers, the last with connection: close, and still accepts a half-sent request', async () => {
    const { server, places } = await startGated();
    const busy = await rawClient(server.port, post('1') + post('2'));
    await until('the calls', () => places.length === 2);
    const half = await rawClient(server.port, post('abc').slice(0, -1));
    const idle = await rawClient(server.port, post('', '', '/now'));
    await idle.seen(/\r\n\r\n/);
    const drained = server.drain();
    await idle.closed();
    half.write('c');
    const answered = new Set<unknown>();
    const answerAll = setInterval(() => {
      for (const place of places) if (!answered.has(place)) place(`answer ${answered.add(place).size}`);
    }, 5);
    expect(await half.closed()).toMatch(/^HTTP\/1\.1 200 [^]*Connection: close\r\n/i);
    const came = await busy.closed();
    clearInterval(answerAll);
    expect(came).toMatch(/HTTP\/1\.1 200 [^]*HTTP\/1\.1 200 [^]*Connection: close\r\n/i);
    expect(came.match(/Connection: close/gi)?.length).toBe(1);
    await drained;
    expect(server.connections()).toBe(0);
  });

  test('accepts one more request on an idle connection during a drain', async () => {
    const { server } = await startGated();
    const client = await rawClient(server.port, post('', '', '/now'));
    await client.seen(/\r\n\r\n/);
    const drained = server.drain({ gracePeriodMs: 5_000 });
    client.write(post('more', '', '/now'));
    const came = await client.closed();
    expect(came.match(/^HTTP\/1\.1 200 /gm)?.length).toBe(2);
    expect(came).toMatch(/Connection: close\r\n/i);
    await server.close();
    await drained;
  });

  test('ends at once when the server is closed', async () => {
    const { server, places, gone } = await startGated();
    const client = await rawClient(server.port, post('1'));
    await until('the call', () => places.length === 1);
    await server.close();
    expect(await client.closed()).toBe('');
    await until('the signal', () => gone.length === 1);
    expect(server.connections()).toBe(0);
  });

  test('is safe from header injection by an answer', async () => {
    const posts: FastApp = {
      handlerOf: () => (_body, place) => place.answer(200, TYPE, { a: 'b\r\nc: d\r\n\r\nx', e: 'ä' }, 'ü'),
    };
    const server = await start({}, [], true, posts);
    const client = await rawClient(server.port, post('1'));
    await client.seen(/\r\n\r\n/);
    expect(client.received()).toMatch(/\r\na: b\?\?c: d\?\?\?\?x\r\ne: \?\r\n/);
    client.destroy();
  });
});

describe('readFastHead()', () => {
  const LIMITS = { frameBytesMax: 1_000, headersMax: 5 };

  test('parses an ordinary head', () => {
    const text = 'POST /rpc/A@1.0 HTTP/1.1\r\nHost: [x]\r\ncontent-LENGTH: 12\r\n\r\n'.replace('[x]', 'a-b.c:80');
    expect(readFastHead(text, LIMITS)).toEqual({
      path: '/rpc/A@1.0',
      headers: { host: 'a-b.c:80', 'content-length': '12' },
      bodyBytes: 12,
    });
  });

  test('returns undefined for a head with any byte that is not plain', () => {
    const text = 'POST /rpc HTTP/1.1\r\nHost: x\r\nA: b\r\nContent-Length: 1\r\n\r\n';
    for (let at = 0; at < text.length; at++) {
      for (const byte of ['\0', '\x01', '\b', '\x7f', '\x80', '\xff']) {
        expect(readFastHead(text.slice(0, at) + byte + text.slice(at), LIMITS)).toBeUndefined();
        expect(readFastHead(text.slice(0, at) + byte + text.slice(at + 1), LIMITS)).toBeUndefined();
      }
      // Without one byte it parses only if that byte was part of a name or a value.
      const without = readFastHead(text.slice(0, at) + text.slice(at + 1), LIMITS);
      if (without !== undefined) expect(text[at]).toMatch(/[a-z /-]/i);
    }
  });
});
