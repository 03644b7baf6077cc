// Requests to an application and its responses: what reaches either side, what is refused, and how failures are
// answered.

import { afterEach, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { ByteLedger, DEFAULT_LIMITS } from '../../../core/mod.ts';
import { SHOP_IDL, site, startShop, type Got, type Header, type Shop } from './shop.ts';

const started: Shop[] = [];
async function start(...options: Parameters<typeof startShop>): Promise<Shop> {
  const shop = await startShop(...options);
  started.push(shop);
  return shop;
}
afterEach(async () => {
  for (const shop of started.splice(0)) await shop.end();
});

/** Counters that must add up whenever no call is in flight. */
function expectBalanced({ mesh }: Shop): void {
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = mesh.callStats.sums();
  expect(inFlight).toBe(0);
  expect(replied + failed + refused + timed_out + cancelled).toBe(accepted);
}

/** Sends one raw request and returns all received bytes. */
async function raw({ server }: Shop, head: string, body = ''): Promise<string> {
  const client = await rawClient(server.port, `${head.replaceAll('\n', '\r\n')}\r\nConnection: close\r\n\r\n${body}`);
  return await client.closed();
}

const valuesOf = (headers: readonly Header[], name: string): string[] =>
  headers.filter((one) => one.name.toLowerCase() === name).map(({ value }) => value);

describe('A request', () => {
  test('arrives with method, path, query, headers, body and client address', async () => {
    const shop = await start();
    const answer = await fetch(`${shop.url}/shop/cart%20one?a=1&b=%2F`, {
      method: 'PUT',
      body: 'words',
      headers: { 'X-Client': 'me', 'content-type': 'text/plain' },
    });
    expect(answer.status).toBe(200);
    const [got] = shop.got as [Got];
    expect({ ...got, headers: undefined, body: got.body.toString() }).toEqual({
      method: 'PUT',
      path: '/shop/cart%20one',
      query: 'a=1&b=%2F',
      headers: undefined,
      body: 'words',
      remote_address: '127.0.0.1',
      scheme: 'http',
      host: `127.0.0.1:${shop.server.port}`,
      prefix: '/shop',
    });
    expect(valuesOf(got.headers, 'x-client')).toEqual(['me']);
    expect(valuesOf(got.headers, 'content-type')).toEqual(['text/plain']);
    expect(answer.headers.get('katamari-version')).toBe('1.0.0');
    expect(shop.mesh.callStats.of('web', 'Shop', 'handle_request').replied).toBe(1);
  });

  test('keeps repeated headers and their order, and loses hop-by-hop headers', async () => {
    const shop = await start();
    const answer = await raw(
      shop,
      'GET /shop/ HTTP/1.1\nHost: x\nX-A: 1\nCookie: a=1\nX-A: 2\nCookie: b=2\nX-Hop: h\nKeep-Alive: 5\nTE: trailers\nProxy-Authorization: p\nConnection: x-hop',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    const [{ headers }] = shop.got as [Got];
    expect(headers.map(({ name, value }) => `${name}: ${value}`)).toEqual([
      'Host: x',
      'X-A: 1',
      'Cookie: a=1',
      'X-A: 2',
      'Cookie: b=2',
      'X-Forwarded-For: 127.0.0.1',
      'X-Forwarded-Proto: http',
      'X-Forwarded-Host: x',
    ]);
  });

  test('has forwarding headers of this connection only, unless its sender is a trusted proxy', async () => {
    const forged =
      'GET /shop/ HTTP/1.1\nHost: inner\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\nX-Forwarded-Proto: https\nX-Forwarded-Host: shop.example';
    const strict = await start();
    await raw(strict, forged);
    const [distrusted] = strict.got as [Got];
    expect([distrusted.remote_address, distrusted.scheme, distrusted.host]).toEqual(['127.0.0.1', 'http', 'inner']);
    expect(valuesOf(distrusted.headers, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    const trusting = await start({ trustProxy: true });
    await raw(trusting, forged);
    const [trusted] = trusting.got as [Got];
    expect([trusted.remote_address, trusted.scheme, trusted.host]).toEqual(['2.2.2.2', 'https', 'shop.example']);
    expect(valuesOf(trusted.headers, 'x-forwarded-for')).toEqual(['1.1.1.1, 2.2.2.2, 127.0.0.1']);
    expect(valuesOf(trusted.headers, 'x-forwarded-host')).toEqual(['shop.example']);
  });

  test('may have any method, and a body in chunks', async () => {
    const shop = await start();
    for (const method of ['GET', 'OPTIONS', 'DELETE', 'PATCH']) {
      const answer = await fetch(`${shop.url}/shop/`, { method });
      expect(((await answer.json()) as { method: string }).method).toBe(method);
    }
    const chunked = await raw(
      shop,
      'POST /shop/ HTTP/1.1\nHost: x\nTransfer-Encoding: chunked',
      '5\r\nhello\r\n7\r\n world!\r\n0\r\n\r\n',
    );
    expect(chunked).toContain('"body":"hello world!"');
    expect(valuesOf((shop.got.at(-1) as Got).headers, 'transfer-encoding')).toEqual([]);
  });

  test('may have an absolute URL in its first line', async () => {
    const shop = await start();
    await raw(shop, 'GET http://other.example/shop/x?y HTTP/1.1\nHost: other.example');
    expect([shop.got[0]?.path, shop.got[0]?.query]).toEqual(['/shop/x', 'y']);
  });

  test('has its bytes booked until it is answered, and a response without room is 503', async () => {
    const ledger = new ByteLedger({ connectionBytesMax: 1e6, callerBytesMax: 2e6, processBytesMax: 4e6 });
    const booked: number[] = [];
    const shop = await start({
      ledger,
      answer: ({ body }) => {
        booked.push(ledger.bytes);
        return { body: Buffer.concat([body, body]) };
      },
    });
    const post = (): Promise<Response> => fetch(`${shop.url}/shop/`, { method: 'POST', body: Buffer.alloc(200_000) });
    expect((await (await post()).arrayBuffer()).byteLength).toBe(400_000);
    expect(booked).toEqual([200_000]);
    await until('all to be given back', () => ledger.bytes === 0);
    const elsewhere = ledger.open('127.0.0.1');
    elsewhere.add(1_500_000);
    const refused = await post();
    expect([refused.status, await refused.text()]).toEqual([503, expect.stringContaining('raise limits.callerMemory')]);
    elsewhere.add(-elsewhere.bytes);
    expect((await post()).status).toBe(200);
    await until('all to be given back', () => ledger.bytes === 0);
  });

  test('has a body of any bytes up to the limit, and not one byte more', async () => {
    const sizes: number[] = [];
    const shop = await start({
      answer: ({ body }) => {
        sizes.push(body.length);
        return { body };
      },
    });
    const limit = DEFAULT_LIMITS.frameBytesMax - 65_536;
    const bytes = Buffer.alloc(limit);
    for (let at = 0; at < limit; at++) bytes[at] = (at * 7) & 0xff;
    const whole = await fetch(`${shop.url}/shop/`, { method: 'POST', body: bytes });
    expect(Buffer.from(await whole.arrayBuffer()).equals(bytes)).toBe(true);
    const over = await raw(shop, `POST /shop/ HTTP/1.1\nHost: x\nContent-Length: ${limit + 1}`);
    expect(over).toMatch(/^HTTP\/1\.1 413 [\s\S]*"code":"too_large"/);
    expect(over).toContain(`limit is ${limit} bytes`);
    const size = 1_048_576;
    const pieces = `${size.toString(16)}\r\n${'z'.repeat(size)}\r\n`.repeat(16);
    const chunked = await raw(shop, 'POST /shop/ HTTP/1.1\nHost: x\nTransfer-Encoding: chunked', `${pieces}0\r\n\r\n`);
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /);
    expect(sizes).toEqual([limit]);
    expectBalanced(shop);
  });

  test('that is sent too slowly never reaches the application', async () => {
    const shop = await start({ limits: { requestMs: 400 } });
    const client = await rawClient(
      shop.server.port,
      'POST /shop/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf',
    );
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 408 /);
    expect(shop.got).toEqual([]);
  });

  test('with too many headers is refused', async () => {
    const shop = await start({ limits: { headersMax: 10 } });
    const many = Array.from({ length: 20 }, (_, index) => `X-${index}: 1`).join('\n');
    expect(await raw(shop, `GET /shop/ HTTP/1.1\nHost: x\n${many}`)).toMatch(/^HTTP\/1\.1 431 /);
    expect(shop.got).toEqual([]);
  });
});

describe('A response', () => {
  const header = (name: string, value: string): Header => ({ name, value });

  test('is sent unchanged: status, repeated headers, any bytes', async () => {
    const shop = await start({
      answer: () => ({
        status: 201,
        headers: [
          header('Set-Cookie', 'a=1; Path=/'),
          header('Content-Type', 'image/x-any'),
          header('Set-Cookie', 'b=2'),
          header('Link', '</a>; rel=preload'),
          header('Link', '</b>; rel=preload'),
        ],
        body: Buffer.from([0, 255, 10, 13, 0]),
      }),
    });
    const answer = await fetch(`${shop.url}/shop/`);
    expect([answer.status, answer.headers.getSetCookie()]).toEqual([201, ['a=1; Path=/', 'b=2']]);
    expect([...new Uint8Array(await answer.arrayBuffer())]).toEqual([0, 255, 10, 13, 0]);
    const text = await raw(shop, 'GET /shop/ HTTP/1.1\nHost: x');
    expect([...text.matchAll(/^link: (.*?)\r?$/gim)].map(([, value]) => value)).toEqual([
      '</a>; rel=preload',
      '</b>; rel=preload',
    ]);
  });

  test('has its headers in UTF-8, as the request has', async () => {
    const towns = ['Zürich', '東京', '🧀'];
    const shop = await start({
      answer: ({ headers }) => ({
        headers: [...headers.filter(({ name }) => name === 'X-Town'), header('X-Tab', 'a\tb')],
      }),
    });
    const head = towns.map((town) => `\nX-Town: ${Buffer.from(town).toString('latin1')}`).join('');
    const client = await rawClient(
      shop.server.port,
      Buffer.from(`GET /shop/ HTTP/1.1\nHost: x${head}\nConnection: close\n\n`.replaceAll('\n', '\r\n'), 'latin1'),
    );
    const text = Buffer.from(await client.closed(), 'latin1').toString();
    expect(valuesOf((shop.got[0] as Got).headers, 'x-town')).toEqual(towns);
    expect([...text.matchAll(/x-town: (.*)\r/gi)].map(([, town]) => town)).toEqual(towns);
    expect(text).toContain('a\tb');
  });

  test('to a request whose headers are not UTF-8 sees them as Latin-1', async () => {
    const shop = await start();
    const client = await rawClient(
      shop.server.port,
      Buffer.from('GET /shop/ HTTP/1.1\r\nHost: x\r\nX-Town: Z\xfcrich\r\nConnection: close\r\n\r\n', 'latin1'),
    );
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 200/);
    expect(valuesOf((shop.got[0] as Got).headers, 'x-town')).toEqual(['Zürich']);
  });

  test('without content is 200 and empty', async () => {
    const shop = await start({ answer: () => ({}) });
    const answer = await fetch(`${shop.url}/shop/`);
    expect([answer.status, answer.headers.get('content-length'), await answer.text()]).toEqual([200, '0', '']);
  });

  test('to HEAD has no body, and the length of a GET', async () => {
    const shop = await start({
      answer: ({ path }) =>
        path.endsWith('told') ? { headers: [header('Content-Length', '1234')] } : { body: Buffer.from('hello') },
    });
    expect(await raw(shop, 'HEAD /shop/ HTTP/1.1\nHost: x')).toMatch(/content-length: 5\r\n[\s\S]*\r\n\r\n$/i);
    expect(await raw(shop, 'HEAD /shop/told HTTP/1.1\nHost: x')).toMatch(/content-length: 1234\r\n[\s\S]*\r\n\r\n$/i);
  });

  test('of 204 and 304 has no body, whatever the application sends', async () => {
    const shop = await start({
      answer: ({ path }) => ({ status: Number(path.slice(-3)), body: Buffer.from('not wanted') }),
    });
    for (const status of [204, 304]) {
      const text = await raw(shop, `GET /shop/${status} HTTP/1.1\nHost: x`);
      expect(text.startsWith(`HTTP/1.1 ${status} `)).toBe(true);
      expect(text.endsWith('\r\n\r\n')).toBe(true);
    }
  });

  test('loses hop-by-hop headers and a wrong length', async () => {
    const shop = await start({
      answer: () => ({
        headers: [
          header('Connection', 'close, x-hop'),
          header('X-Hop', 'h'),
          header('Transfer-Encoding', 'chunked'),
          header('Keep-Alive', 'timeout=5'),
          header('Content-Length', '3'),
          header('X-Stays', 's'),
        ],
        body: Buffer.from('hello'),
      }),
    });
    const answer = await fetch(`${shop.url}/shop/`);
    expect(await answer.text()).toBe('hello');
    expect([answer.headers.get('x-hop'), answer.headers.get('x-stays')]).toEqual([null, 's']);
    expect(answer.headers.get('transfer-encoding')).toBe(null);
  });

  const wrong: Readonly<Record<string, [unknown, string]>> = {
    'a status that is none': [{ status: 99 }, 'the status 99, expected 200 to 599'],
    'an interim status': [{ status: 101 }, 'the status 101'],
    'a header name with a space': [{ headers: [header('X Y', '1')] }, 'a header named \\"X Y\\"'],
    'a header name without letters': [{ headers: [header('', '1')] }, 'a header named'],
    'a header that would be a second response': [
      { headers: [header('X', 'a\r\n\r\nHTTP/1.1 200 OK\r\n')] },
      'with characters that HTTP does not allow',
    ],
    'too many headers': [{ headers: Array.from({ length: 300 }, () => header('X', '1')) }, '300 headers, limit is 200'],
    'headers that are too long': [
      { headers: Array.from({ length: 9 }, () => header('X', 'y'.repeat(10_000))) },
      'headers of more than 65536 bytes',
    ],
  };
  for (const [what, [response, why]] of Object.entries(wrong)) {
    test(`with ${what} is a 502 that says so`, async () => {
      const shop = await start({ answer: () => response });
      const text = await raw(shop, 'GET /shop/ HTTP/1.1\nHost: x\nAccept: application/json');
      expect(text).toMatch(/^HTTP\/1\.1 502 [\s\S]*"code":"resource_failed"/);
      expect(text).toContain(why);
      expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1);
      expectBalanced(shop);
    });
  }
});

describe('A failure', () => {
  test('of the application is a 500 without details', async () => {
    const shop = await start();
    const answer = await fetch(`${shop.url}/shop/crash/now`);
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([500, 'no-store']);
    const text = await answer.text();
    expect(text).toBe('The application failed on this request; its log says why.\n');
    expect(shop.mesh.callStats.of('web', 'Shop', 'handle_request').exceptions).toBe(1);
  });

  test('is plain text for people and JSON for programs', async () => {
    const shop = await start({ pools: () => [] });
    const text = await fetch(`${shop.url}/shop/`, { headers: { accept: 'text/html' } });
    expect([text.status, text.headers.get('content-type')]).toEqual([503, 'text/plain; charset=utf-8']);
    expect(text.headers.get('retry-after')).toBe('1');
    expect(await text.text()).toContain('Shop');
    const json = await fetch(`${shop.url}/shop/`, { headers: { accept: 'application/json' } });
    expect(((await json.json()) as { error: { code: string } }).error.code).toBe('no_pool');
  });

  test('at the deadline is a 504; the lower timeout of site and client applies', async () => {
    const shop = await start({ sites: [site({ timeoutMs: 150 })] });
    const late = await fetch(`${shop.url}/shop/wait/a`);
    expect(late.status).toBe(504);
    const slow = await start();
    const early = await fetch(`${slow.url}/shop/wait/a`, { headers: { 'katamari-timeout-ms': '100' } });
    expect(early.status).toBe(504);
    for (const one of [shop, slow]) one.release('a');
    expect(slow.mesh.callStats.of('web', 'Shop', 'handle_request').timed_out).toBe(1);
    const wrong = await fetch(`${slow.url}/shop/`, { headers: { 'katamari-timeout-ms': 'soon' } });
    expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining('katamari-timeout-ms') as string]);
  });

  test('of a full queue is a 503 that says when to retry', async () => {
    const shop = await start({
      pools: (handlers) => [{ idl: SHOP_IDL, service: 'Shop', handlers, resources: 1, queueMax: 1 }],
    });
    const first = fetch(`${shop.url}/shop/wait/a`);
    await until('it to run', () => shop.isWaiting('a'));
    const second = fetch(`${shop.url}/shop/x`);
    await until('it to wait', () => shop.mesh.callStats.of('web', 'Shop', 'handle_request').accepted === 2);
    const third = await fetch(`${shop.url}/shop/x`);
    expect([third.status, third.headers.get('retry-after')]).toEqual([503, '2']);
    shop.release('a');
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
    expectBalanced(shop);
  });

  test('of a path without a site is a 404', async () => {
    const shop = await start();
    for (const path of ['/', '/shopping', '/sho', '/SHOP/']) {
      const answer = await fetch(shop.url + path);
      expect([answer.status, await answer.text()]).toEqual([404, expect.stringContaining('no site') as string]);
    }
    expect(shop.got).toEqual([]);
    expectBalanced(shop);
  });

  test('of a service with another interface says what to do', async () => {
    const shop = await start({
      sites: [site({ service: 'Fixture' })],
      pools: () => [
        {
          idl: new URL('../../fixtures/idl/fixture.thrift', import.meta.url).pathname,
          service: 'Fixture',
          handlers: Object.fromEntries(
            ['echo', 'addLong', 'half', 'strict', 'ping', 'refuse', 'crash', 'tell', 'mixed', 'wait', 'context'].map(
              (name) => [name, () => undefined],
            ),
          ),
        },
      ],
    });
    const answer = await fetch(`${shop.url}/shop/`);
    expect([answer.status, await answer.text()]).toEqual([503, expect.stringContaining('handle_request') as string]);
  });
});

describe('Sites', () => {
  test('match by the longest prefix, and pass it to the application', async () => {
    const shop = await start({
      sites: [
        site({ prefix: '/', service: 'Blog' }),
        site({ prefix: '/shop' }),
        site({ prefix: '/shop/help', service: 'Blog' }),
      ],
    });
    for (const [path, service, prefix] of [
      ['/', 'Blog', ''],
      ['/shopping', 'Blog', ''],
      ['/shop', 'Shop', '/shop'],
      ['/shop/', 'Shop', '/shop'],
      ['/shop/helper', 'Shop', '/shop'],
      ['/shop/help', 'Blog', '/shop/help'],
      ['/shop/help/me', 'Blog', '/shop/help'],
    ] as const) {
      const answer = (await (await fetch(shop.url + path)).json()) as { service: string; prefix: string; path: string };
      expect([path, answer.service, answer.prefix, answer.path]).toEqual([path, service, prefix, path]);
    }
  });

  test('share versions by weight; a header, then the site, selects one; a cookie makes a client sticky', async () => {
    const shop = await start({
      sites: [site({ stickyCookie: 'guest' }), site({ prefix: '/old', version: '^1.0.0' })],
      pools: (handlers) =>
        ['1.0.0', '2.0.0'].map((version) => ({ idl: SHOP_IDL, service: 'Shop', version, handlers, resources: 4 })),
    });
    shop.mesh.router.setRoutes(new Map([['Shop', { weights: { '1.0.0': 50, '2.0.0': 50 } }]]));
    const versionOf = async (path: string, headers: Record<string, string> = {}): Promise<string | null> => {
      const answer = await fetch(shop.url + path, { headers });
      await answer.text();
      return answer.headers.get('katamari-version');
    };
    const seen = new Set<string | null>();
    for (let count = 0; count < 60; count++) seen.add(await versionOf('/shop/'));
    expect([...seen].sort()).toEqual(['1.0.0', '2.0.0']);
    expect(await versionOf('/shop/', { 'katamari-version': '2.0.0' })).toBe('2.0.0');
    expect(await versionOf('/old/')).toBe('1.0.0');
    expect(await versionOf('/old/', { 'katamari-version': '2.0.0' })).toBe('2.0.0');
    const missing = await fetch(`${shop.url}/shop/`, { headers: { 'katamari-version': '3' } });
    expect(missing.status).toBe(404);
    for (const cookie of ['guest=ann; x=1', 'y=2; guest=bob']) {
      const own = new Set<string | null>();
      for (let count = 0; count < 20; count++) own.add(await versionOf('/shop/', { cookie }));
      expect(own.size).toBe(1);
    }
    const keyed = (await (await fetch(`${shop.url}/shop/`, { headers: { cookie: 'guest=ann' } })).json()) as object;
    expect(keyed).toMatchObject({ key: 'ann', caller: 'web 127.0.0.1' });
  });
});

describe('The end', () => {
  test('of a client removes its request from the queue', async () => {
    const shop = await start({ pools: (handlers) => [{ idl: SHOP_IDL, service: 'Shop', handlers, resources: 1 }] });
    const first = fetch(`${shop.url}/shop/wait/a`);
    await until('it to run', () => shop.isWaiting('a'));
    const client = await rawClient(shop.server.port, 'GET /shop/never HTTP/1.1\r\nHost: x\r\n\r\n');
    const stats = shop.mesh.callStats.of('web', 'Shop', 'handle_request');
    await until('it to wait', () => stats.accepted === 2);
    client.disconnect();
    await until('it to be cancelled', () => stats.cancelled === 1);
    shop.release('a');
    expect((await first).status).toBe(200);
    expect(shop.got.map(({ path }) => path)).toEqual(['/shop/wait/a']);
    expectBalanced(shop);
  });

  test('by drain answers requests in progress and accepts no more', async () => {
    const shop = await start();
    const begun = fetch(`${shop.url}/shop/wait/a`);
    await until('it to run', () => shop.isWaiting('a'));
    const drained = shop.server.drain();
    await until('no listener', () =>
      rawClient(shop.server.port).then(
        (client) => {
          client.destroy();
          return false;
        },
        () => true,
      ),
    );
    shop.release('a');
    expect((await begun).status).toBe(200);
    await drained;
    await shop.server.close();
    expectBalanced(shop);
  });
});
