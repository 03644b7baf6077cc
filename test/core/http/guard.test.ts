// Which requests an HTTP port refuses before any work: the wrong Host, a page of another origin, a content type that
// needs no preflight, and heads that can be read in two ways. Each runs against a real server, with and without the
// fast path, and is refused if and only if the app has not seen it.

import { hostname } from 'node:os';
import { afterEach, describe, expect, test } from 'vitest';
import { serveHttp, type HttpAccess, type HttpPortRules, type HttpServer } from '../../../core/http/mod.ts';
import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import { rawClient } from '../../kit/wire/raw-http.ts';

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

interface Port {
  /** Sends a request; returns the status, the whole response, and how many requests the app has seen. */
  send(text: string): Promise<{ status: number; response: string; seen: number }>;
  /** Sends requests; returns the statuses that came until the server closed the connection. */
  all(text: string): Promise<{ statuses: readonly string[]; seen: number }>;
}

async function open(rules: HttpPortRules, access: Partial<HttpAccess> = {}): Promise<Port> {
  let seen = 0;
  const server = await serveHttp({
    fetch: () => {
      seen++;
      return new Response('served', { headers: { vary: 'Accept' } });
    },
    posts: {
      handlerOf: () => (_body, call) => {
        seen++;
        call.answer(200, 'text/plain', {}, 'served');
      },
    },
    host: '127.0.0.1',
    port: 0,
    limits: DEFAULT_LIMITS,
    access: { hosts: [], origins: [], ...access },
    rules,
  });
  servers.push(server);
  return {
    async all(text) {
      seen = 0;
      const response = await (await rawClient(server.port, text)).closed();
      return { statuses: [...response.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status = '']) => status), seen };
    },
    async send(text) {
      seen = 0;
      const client = await rawClient(server.port, text);
      const response = await client.seen(/\r\n\r\n[^]*(served|")|\b204 /);
      client.destroy();
      return { status: Number(/^HTTP\/1\.1 (\d+) /.exec(response)?.[1]), response, seen };
    },
  };
}

/** A request; `null` leaves the header out. */
function request(
  method: string,
  headers: Readonly<Record<string, string | null>> = {},
  target = '/rpc',
  version = '1.1',
): string {
  const body = method === 'POST' ? '{}' : '';
  const all = { Host: 'localhost', ...(body === '' ? {} : { 'Content-Length': '2' }), ...headers };
  const lines = Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [`${name}: ${value}\r\n`]));
  return `${method} ${target} HTTP/${version}\r\n${lines.join('')}\r\n${body}`;
}
const JSON_TYPE = { 'Content-Type': 'application/json' };

/** What the configuration may add for these tests. */
const CONFIGURED = { hosts: ['Mesh.example', '*.pool.example', '*.consul'], origins: ['https://app.example'] };

describe('The host of a request', () => {
  for (const host of [
    'localhost',
    'LOCALHOST:9080',
    'localhost.',
    'a.localhost',
    'a.b.localhost:1',
    '127.0.0.1',
    '127.8.9.10:65535',
    '[::1]:9080',
    '[2001:DB8::1]',
    '[::ffff:7f00:1]:80',
    '0.0.0.0:9080',
    '10.1.2.3:9080',
    '203.0.113.9',
    hostname(),
    `${hostname().toUpperCase()}:9080`,
    'mesh.example',
    'MESH.example.:443',
    'a.pool.example',
    'katamari-json-rpc.service.dc1.consul:9080',
  ]) {
    test(`may be ${host}`, async () => {
      const port = await open({ postsAreCalls: true }, CONFIGURED);
      for (const text of [request('GET', { Host: host }), request('POST', { Host: host, ...JSON_TYPE })]) {
        expect(await port.send(text)).toMatchObject({ status: 200, seen: 1 });
      }
    });
  }

  for (const host of [
    'attacker.example',
    'attacker.example:9080',
    'localhost.attacker.example',
    'localhostx',
    'xlocalhost',
    '127.0.0.1.attacker.example',
    'mesh.example.attacker.example',
    'pool.example',
    'xpool.example',
    'consul',
  ]) {
    test(`is refused with 421 and the remedy if it is ${host}`, async () => {
      const port = await open({}, CONFIGURED);
      for (const text of [
        request('GET', { Host: host }),
        request('POST', { Host: host }),
        request('GET', {}, `http://${host}/rpc`),
        request('OPTIONS', { Host: host }),
      ]) {
        const { status, response, seen } = await port.send(text);
        expect([status, seen]).toEqual([421, 0]);
        expect(response).toContain('http.hosts');
        expect(response).toContain(host);
      }
    });
  }

  for (const host of [
    '',
    ' ',
    'a b',
    'localhost:99999',
    'localhost:80:80',
    'localhost:x',
    'user@localhost',
    'localhost/x',
    '[::1',
    '[::g]',
    '[0:0:0:0:0:0:0:1]',
    '0x7f.1',
    '2130706433',
    '127.1',
    'localhost:',
    '::1',
    'local%68ost',
    'localhost,localhost',
    'localhost\\x',
    'l\xf6calhost',
    '..',
    '-\t-',
  ]) {
    test(`is refused with 400 if it is ${JSON.stringify(host)}`, async () => {
      const port = await open({}, { hosts: ['*'] });
      for (const method of ['GET', 'POST']) {
        expect(await port.send(request(method, { Host: host }))).toMatchObject({ status: 400, seen: 0 });
      }
    });
  }

  test('may be missing in HTTP/1.0 only, as health checks of load balancers leave it out', async () => {
    const port = await open({});
    expect(await port.send(request('GET', { Host: null }, '/', '1.0'))).toMatchObject({ status: 200, seen: 1 });
    expect(await port.send(request('OPTIONS', { Host: null }, '/', '1.0'))).toMatchObject({ status: 200, seen: 1 });
    expect(await port.send(request('GET', { Host: 'evil.example' }, '/', '1.0'))).toMatchObject({ status: 421 });
    expect(await port.send(request('GET', { Host: null }))).toMatchObject({ status: 400, seen: 0 });
  });

  test('is checked for each request of a connection, not only for the first', async () => {
    const port = await open({});
    for (const method of ['POST', 'GET']) {
      const good = request(method);
      const text = `${good}${good}${request(method, { Host: 'evil.example' })}${good}`;
      expect(await port.all(text)).toEqual({ statuses: ['200', '200', '421'], seen: 2 });
    }
  });

  test('in an absolute target counts too, and the target may not hide it behind a user name', async () => {
    const port = await open({});
    expect(await port.send(request('GET', {}, 'http://localhost:9080/x'))).toMatchObject({ status: 200 });
    expect(await port.send(request('GET', {}, 'http://localhost@evil.example/x'))).toMatchObject({ status: 400 });
    const both = request('GET', { Host: 'evil.example' }, 'http://localhost/x');
    expect(await port.send(both)).toMatchObject({ status: 421, seen: 0 });
  });

  test('may be any name with "*"', async () => {
    const port = await open({}, { hosts: ['*'] });
    expect(await port.send(request('GET', { Host: 'what.ever' }))).toMatchObject({ status: 200 });
  });

  test('in X-Forwarded-Host counts beside Host if all clients are trusted proxies', async () => {
    const access = { hosts: ['shop.example'] };
    const [trusting, other] = [await open({ trustProxy: true }, access), await open({}, access)];
    const forwarded = (host: string, inner = '127.0.0.1'): string =>
      request('GET', { Host: inner, 'X-Forwarded-Host': host });
    expect(await trusting.send(forwarded('shop.example'))).toMatchObject({ status: 200 });
    expect(await trusting.send(forwarded('evil.example'))).toMatchObject({ status: 421 });
    expect(await trusting.send(forwarded('shop.example', 'evil.example'))).toMatchObject({ status: 421 });
    expect(await other.send(forwarded('evil.example'))).toMatchObject({ status: 200 });
  });
});

describe('A request of a web page', () => {
  const page = (origin: string | null, site: string | null, more = {}): Record<string, string | null> => ({
    ...JSON_TYPE,
    Origin: origin,
    'Sec-Fetch-Site': site,
    ...more,
  });

  for (const [what, headers] of [
    ['the same origin', page('http://localhost', null)],
    ['the same origin, said so', page('http://localhost', 'same-origin')],
    ['the same origin behind a proxy that removes TLS', page('https://localhost', null)],
    ['the same origin behind a proxy that changes Host', page('https://shop.example', 'same-origin')],
    ['the same origin with a referrer policy', page('null', 'same-origin')],
    ['the address bar', page(null, 'none')],
    ['an allowed origin', page('https://app.example', 'cross-site')],
  ] as const) {
    test(`of ${what} is served`, async () => {
      const port = await open({ postsAreCalls: true }, CONFIGURED);
      expect(await port.send(request('POST', headers))).toMatchObject({ status: 200, seen: 1 });
      expect(await port.send(request('GET', headers))).toMatchObject({ status: 200, seen: 1 });
    });
  }

  for (const [what, headers] of [
    ['another site', page('https://evil.example', 'cross-site')],
    ['another site, in a browser without Sec-Fetch-Site', page('https://evil.example', null)],
    ['another port', page('http://localhost:3000', 'same-site')],
    ['another port, in a browser without Sec-Fetch-Site', page('http://localhost:3000', null)],
    ['another scheme that says so', page('https://localhost', 'cross-site')],
    ['a sandbox', page('null', 'cross-site')],
    ['a sandbox, in a browser without Sec-Fetch-Site', page('null', null)],
    ['a file', page('file://', null)],
    ['an extension', page('chrome-extension://abc', null)],
    ['an image', page(null, 'cross-site', { 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'image' })],
    ['a script on another port', page(null, 'same-site', { 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'script' })],
    ['a frame', page(null, 'cross-site', { 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'iframe' })],
    ['an unknown relation', page(null, 'some-site')],
    ['an origin that begins like an allowed one', page('https://app.example.evil.example', 'cross-site')],
    ['an allowed origin with another scheme', page('http://app.example', 'cross-site')],
    ['an allowed origin with another port', page('https://app.example:8443', 'cross-site')],
  ] as const) {
    test(`of ${what} is refused with 403, and gets no CORS headers`, async () => {
      const port = await open({ postsAreCalls: true, hasPages: true }, CONFIGURED);
      for (const method of ['POST', 'GET', 'OPTIONS']) {
        const { status, response, seen } = await port.send(request(method, headers));
        expect([method, status, seen]).toEqual([method, 403, 0]);
        expect(response).toContain('http.origins');
        expect(response).not.toMatch(/access-control/i);
      }
    });
  }

  test('may be opened by a link elsewhere if the port has pages, but not by a form', async () => {
    const link = { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'document' };
    const [pages, none] = [await open({ hasPages: true }), await open({})];
    expect(await pages.send(request('GET', link))).toMatchObject({ status: 200 });
    expect(await none.send(request('GET', link))).toMatchObject({ status: 403, seen: 0 });
    for (const port of [pages, none]) {
      const form = request('POST', { ...link, Origin: 'https://evil.example' });
      expect(await port.send(form)).toMatchObject({ status: 403, seen: 0 });
    }
  });

  test('of an allowed origin gets CORS headers, and the answer to its preflight', async () => {
    const port = await open({ postsAreCalls: true }, CONFIGURED);
    const origin = { Origin: 'https://app.example', 'Sec-Fetch-Site': 'cross-site' };
    const preflight = await port.send(request('OPTIONS', { ...origin, 'Access-Control-Request-Method': 'POST' }));
    expect([preflight.status, preflight.seen]).toEqual([204, 0]);
    expect(preflight.response).toMatch(/access-control-allow-methods: [^\r]*POST/i);
    expect(preflight.response).toMatch(/access-control-allow-headers: [^\r]*content-type/i);
    const { response } = await port.send(request('POST', { ...origin, ...JSON_TYPE }));
    expect(response).toMatch(/access-control-allow-origin: https:\/\/app\.example\r/i);
    const referred = { Referer: 'https://app.example/x', 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'image' };
    expect(await port.send(request('GET', referred))).toMatchObject({ status: 200 });
  });

  test('of any origin is served with "*"', async () => {
    const port = await open({}, { origins: ['*'] });
    const { status, response } = await port.send(request('GET', { Origin: 'null', 'Sec-Fetch-Site': 'cross-site' }));
    expect(status).toBe(200);
    expect(response).toMatch(/access-control-allow-origin: null\r/i);
  });

  test('of an allowed origin reaches the application, which answers CORS requests itself', async () => {
    const port = await open({ isApplication: true }, CONFIGURED);
    const { response, seen } = await port.send(request('OPTIONS', { Origin: 'https://app.example' }));
    expect(seen).toBe(1);
    expect(response).not.toMatch(/access-control/i);
  });
});

describe('The content type of a call', () => {
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON',
    'application/x-thrift',
    'application/vnd.apache.thrift.binary',
    'application/octet-stream',
    'text/json',
    null,
    '',
  ]) {
    test(`may be ${JSON.stringify(type)}`, async () => {
      const port = await open({ postsAreCalls: true });
      expect(await port.send(request('POST', { 'Content-Type': type }))).toMatchObject({ status: 200, seen: 1 });
    });
  }

  for (const type of [
    'text/plain',
    'text/plain;charset=UTF-8',
    'TEXT/Plain ; x=application/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'json',
    'application/json, text/plain',
    'application/',
    '*/*, text/plain',
  ]) {
    test(`is refused with 415 if it is ${type}`, async () => {
      const port = await open({ postsAreCalls: true });
      const { status, response, seen } = await port.send(request('POST', { 'Content-Type': type }));
      expect([status, seen]).toEqual([415, 0]);
      expect(response).toContain('application/json');
    });
  }

  test('is needed from a browser, even from a page of the same origin', async () => {
    const port = await open({ postsAreCalls: true });
    for (const headers of [
      { Origin: 'http://localhost' },
      { 'Sec-Fetch-Site': 'same-origin' },
      { 'Sec-Fetch-Site': 'none', 'Content-Type': '' },
      { 'Sec-Fetch-Dest': 'empty' },
    ]) {
      expect(await port.send(request('POST', headers))).toMatchObject({ status: 415, seen: 0 });
    }
    expect(await port.send(request('POST', { 'Sec-Fetch-Mode': 'cors' }))).toMatchObject({ status: 200, seen: 1 });
  });

  test('does not matter on a port whose POSTs are no calls', async () => {
    const port = await open({});
    expect(await port.send(request('POST', { 'Content-Type': 'text/plain' }))).toMatchObject({ status: 200, seen: 1 });
  });
});

describe('A head that can be read in two ways', () => {
  for (const [name, values, status] of [
    ['Host', ['localhost', 'localhost'], 400],
    ['host', ['evil.example', 'localhost'], 400],
    ['Content-Length', ['2', '2'], 400],
    ['Content-Length', ['2', '1'], 400],
    ['Content-Type', ['application/json', 'application/json'], 400],
    ['Authorization', ['Bearer a', 'Bearer b'], 400],
    ['Origin', ['http://localhost', 'http://localhost'], 400],
    ['Sec-Fetch-Site', ['same-origin', 'cross-site'], 400],
    ['Transfer-Encoding', ['chunked', 'chunked'], 400],
    ['Transfer-Encoding', ['gzip, chunked'], 501],
    ['Transfer-Encoding', ['x, chunked'], 501],
    ['Content-Encoding', ['gzip'], 415],
    ['Content-Encoding', ['x-gzip'], 415],
    ['Content-Encoding', ['identity, br'], 415],
    ['Content-Encoding', ['identity', 'deflate'], 415],
  ] as const) {
    test(`is refused with ${status}: ${name} ${values.join(' and ')}`, async () => {
      const port = await open({ postsAreCalls: true });
      const isChunked = name === 'Transfer-Encoding';
      const head: string[] = ['POST /rpc HTTP/1.1'];
      if (name.toLowerCase() !== 'host') head.push('Host: localhost');
      if (name !== 'Content-Length' && !isChunked) head.push('Content-Length: 2');
      for (const value of values) head.push(`${name}: ${value}`);
      const body = isChunked ? '2\r\n{}\r\n0\r\n\r\n' : '{}';
      const answer = await port.send(`${head.join('\r\n')}\r\n\r\n${body}`);
      expect([answer.status, answer.seen]).toEqual([status, 0]);
      if (status !== 400) expect(answer.response).toContain(values.at(-1)?.split(',').pop()?.trim().split(' ')[0]);
    });
  }

  test('is served with Content-Encoding: identity, and with chunks', async () => {
    const port = await open({ postsAreCalls: true });
    expect(await port.send(request('POST', { 'Content-Encoding': 'Identity' }))).toMatchObject({
      status: 200,
      seen: 1,
    });
    const chunks = 'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n';
    expect(await port.send(chunks)).toMatchObject({ status: 200, seen: 1 });
  });

  for (const path of [
    '/rpc/%ZZ',
    '/rpc/%',
    '/rpc/%4',
    '/%',
    '/rpc/%FF',
    '/rpc/%C0%AF',
    '/rpc/%ED%A0%80',
    '/%u0041?x',
  ]) {
    test(`is refused with 400: the path ${path}`, async () => {
      const port = await open({});
      for (const target of [path, `http://localhost${path}`]) {
        for (const method of ['GET', 'POST']) {
          expect(await port.send(request(method, {}, target))).toMatchObject({ status: 400, seen: 0 });
        }
      }
    });
  }

  test('is served with valid escapes in the path, and with any query', async () => {
    const port = await open({});
    for (const target of ['/rpc/%41', '/%E2%82%AC', '/x?y=%ZZ&100%']) {
      expect(await port.send(request('GET', {}, target))).toMatchObject({ status: 200, seen: 1 });
    }
    const application = await open({ isApplication: true });
    expect(await application.send(request('GET', {}, '/%E4'))).toMatchObject({ status: 200, seen: 1 });
    expect(await application.send(request('GET', {}, '/%ZZ'))).toMatchObject({ status: 400, seen: 0 });
  });
});
