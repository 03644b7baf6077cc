// What is around the calls: headers, refusals, limits, origins, clients that leave, the end.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { startParlour, type Parlour } from './fixture.ts';

const PING = '{"jsonrpc":"2.0","id":1,"method":"Parlour.ping"}';
const waitFor = (name: string): string =>
  JSON.stringify({ jsonrpc: '2.0', id: name, method: 'Parlour.wait', params: { name } });

/** A request in bytes, as a client without a library would write it. */
function httpPost(body: string, headers = ''): string {
  return `POST /rpc HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const started: Parlour[] = [];
async function start(...options: Parameters<typeof startParlour>): Promise<Parlour> {
  const parlour = await startParlour(...options);
  started.push(parlour);
  return parlour;
}
afterEach(async () => {
  for (const parlour of started.splice(0)) await parlour.end();
});

/** What must add up whenever nothing is under way. */
function expectBalanced({ door }: Parlour): void {
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = door.book.sums();
  expect(inFlight).toBe(0);
  expect(replied + failed + refused + timed_out + cancelled).toBe(accepted);
}

describe('headers', () => {
  let parlour: Parlour;
  beforeAll(async () => {
    parlour = await startParlour({
      pools: (handlers) => {
        const idl = new URL('../../fixtures/idl/parlour.thrift', import.meta.url).pathname;
        return [
          { idl, service: 'Parlour', version: '1.0.0', handlers },
          { idl, service: 'Parlour', version: '1.2.0', tags: ['fast', 'new'], handlers },
          { idl, service: 'Parlour', version: '2.0.0', roles: ['staging'], handlers },
        ];
      },
    });
  });
  afterAll(() => parlour.end());

  const context = async (
    headers: Readonly<Record<string, string>>,
    method = 'Parlour.context',
  ): Promise<Record<string, string>> => (await parlour.call(method, {}, headers)).json.result as Record<string, string>;

  test('katamari-version chooses the version, and the answer says which it was', async () => {
    for (const [wanted, got] of [
      ['1.0.0', '1.0.0'],
      ['1.2.0', '1.2.0'],
      ['^1.0.0', '1.2.0'],
    ] as const) {
      const answer = await parlour.call('Parlour.ping', undefined, { 'katamari-version': wanted });
      expect([answer.status, answer.headers.get('katamari-version')]).toEqual([200, got]);
    }
    const own = await parlour.call('Parlour@1.0.0.ping', undefined, { 'katamari-version': '1.2.0' });
    expect(own.headers.get('katamari-version')).toBe('1.0.0');
    const none = await parlour.call('Parlour.ping', undefined, { 'katamari-version': '3' });
    expect([none.status, none.json.error?.code]).toEqual([404, -32001]);
  });

  test('katamari-roles is a wall, katamari-tags a preference', async () => {
    expect((await context({ 'katamari-roles': 'staging' }))['version']).toBe('2.0.0');
    const walled = await parlour.call('Parlour.ping', undefined, { 'katamari-roles': 'production' });
    expect(walled.json.error?.code).toBe(-32001);
    const tagged = await context({ 'katamari-tags': 'fast, unheard-of' });
    expect([tagged['version'], tagged['tags']]).toEqual(['1.2.0', 'fast unheard-of']);
  });

  test('katamari-key and the trace reach the chassis, a broken trace does not', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const seen = await context({ 'katamari-key': 'user 7', traceparent, tracestate: 'a=b' });
    expect([seen['key'], seen['traceparent'], seen['tracestate']]).toEqual(['user 7', traceparent, 'a=b']);
    expect(seen['caller']).toBe('json-rpc 127.0.0.1');
    for (const broken of [
      'x',
      '00-0-0-01',
      `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
      traceparent.replace(/^00/, 'ff'),
    ]) {
      const without = await context({ traceparent: broken, tracestate: 'a=b' });
      expect([without['traceparent'], without['tracestate']]).toEqual(['', '']);
    }
  });

  test('katamari-timeout-ms shortens the deadline and never lengthens it', async () => {
    expect(Number((await context({ 'katamari-timeout-ms': '500' }))['timeLeftMs'])).toBeLessThanOrEqual(500);
    const long = Number((await context({ 'katamari-timeout-ms': '99999999' }))['timeLeftMs']);
    expect(long).toBeLessThanOrEqual(10_000);
    expect(long).toBeGreaterThan(500);
    for (const wrong of ['0', '-5', '1.5', 'soon', '5, 6', '1e3']) {
      const answer = await parlour.call('Parlour.ping', undefined, { 'katamari-timeout-ms': wrong });
      expect([answer.status, answer.json.error?.code]).toEqual([400, -32600]);
      expect(answer.json.error?.message).toContain(
        `katamari-timeout-ms: expected a whole number of milliseconds above 0, got "${wrong}"`,
      );
    }
    const twice = await rawClient(
      parlour.server.port,
      httpPost(PING, 'Katamari-Timeout-Ms: 100\r\nKatamari-Timeout-Ms: 200\r\n'),
    );
    expect(await twice.seen(/100, 200/)).toMatch(/^HTTP\/1\.1 400 /);
    twice.destroy();
  });
});

describe('calls that fail', () => {
  test('with a declared exception are -32050 with its fields, and status 200', async () => {
    const parlour = await start();
    const answer = await parlour.call('Parlour.refuse', { why: 'because', number: '9223372036854775807' });
    expect(answer.status).toBe(200);
    expect(answer.json.error).toEqual({
      code: -32050,
      message: 'Refused: because',
      data: { exception: 'Refused', why: 'because', number: '9223372036854775807' },
    });
    expect(answer.headers.get('katamari-version')).toBe('1.0.0');
    const stats = parlour.door.book.of('json-rpc', 'Parlour', 'refuse');
    expect([stats.replied, stats.exceptions]).toEqual([1, 1]);
  });

  test('because a handler threw are -32603 with its message, not its stack, and status 200', async () => {
    const parlour = await start();
    const answer = await parlour.call('Parlour.crash');
    expect(answer.status).toBe(200);
    expect([answer.json.error?.code, answer.json.error?.data]).toEqual([-32603, { code: 'application' }]);
    expect(answer.json.error?.message).toContain('a wheel came off');
    expect(answer.text).not.toContain('.ts:');
  });

  test('at their deadline say in which stage, with status 504', async () => {
    const parlour = await start();
    const service = parlour.call('Parlour.wait', { name: 'a' }, { 'katamari-timeout-ms': '100' });
    await until('the first to be in its handler', () => parlour.door.ran.length === 1);
    const queue = await parlour.call('Parlour.ping', {}, { 'katamari-timeout-ms': '50' });
    expect([queue.status, queue.json.error?.code, queue.json.error?.data]).toEqual([
      504,
      -32003,
      { code: 'timeout', stage: 'queue' },
    ]);
    expect((await service).json.error?.data).toEqual({ code: 'timeout', stage: 'service' });
    parlour.release('a');
    expectBalanced(parlour);
    expect(parlour.door.book.sums().timed_out).toBe(2);
  });

  test('because a queue is full are 503 with Retry-After in whole seconds', async () => {
    const parlour = await start({
      pools: (handlers) => [
        {
          idl: new URL('../../fixtures/idl/parlour.thrift', import.meta.url).pathname,
          service: 'Parlour',
          handlers,
          queueMax: 0,
        },
      ],
    });
    const busy = parlour.call('Parlour.wait', { name: 'a' });
    await until('the first to be in its handler', () => parlour.door.ran.length === 1);
    const answer = await parlour.call('Parlour.ping');
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '2']);
    expect([answer.json.error?.code, answer.json.error?.data]).toEqual([
      -32002,
      { code: 'overloaded', retryAfterMs: 1200 },
    ]);
    parlour.release('a');
    expect((await busy).json.result).toBe('a');
    expectBalanced(parlour);
  });

  test('in a batch do not change the status of the whole', async () => {
    const parlour = await start();
    const answer = await parlour.post(`[${PING},{"jsonrpc":"2.0","id":2,"method":"Parlour.nothing"}]`);
    expect(answer.status).toBe(200);
  });
});

describe('the book', () => {
  test('enters every call once under its name, and strangers under -', async () => {
    const parlour = await start({ limits: { batchMax: 2, frameBytesMax: 10_000 } });
    await parlour.call('Parlour.ping');
    await parlour.call('Parlour.addLong', { a: 'x', b: 1 });
    await parlour.call('Parlour@9.ping');
    for (let i = 0; i < 5; i++) await parlour.call(`Stranger${i}.method${i}`);
    await parlour.post('no json');
    await parlour.post('[1,{}]');
    await parlour.post('[1,2,3]');
    await parlour.post(`"${'x'.repeat(20_000)}"`);
    await parlour.call('rpc.discover');
    const { book } = parlour.door;
    const counted = [...book.entries()].map(
      ({ service, method, stats }) => `${service}.${method} ${stats.accepted} ${stats.replied} ${stats.refused}`,
    );
    expect(counted.sort()).toEqual(['-.- 11 1 10', 'Parlour.addLong 1 0 1', 'Parlour.ping 2 1 1']);
    expectBalanced(parlour);
  });
});

describe('clients that leave', () => {
  test('have their call entered as cancelled at once, and one that waited never runs', async () => {
    const parlour = await start();
    const working = await rawClient(parlour.server.port, httpPost(waitFor('a')));
    await until('the first to be in its handler', () => parlour.door.ran.length === 1);
    const queued = await rawClient(parlour.server.port, httpPost(PING));
    await until('the second to wait', () => parlour.door.directory.pools()[0]?.queued === 1);
    queued.destroy();
    await until('the second to be cancelled', () => parlour.door.book.sums().cancelled === 1);
    expect(parlour.door.directory.pools()[0]?.queued).toBe(0);
    working.destroy();
    await until('the first to be cancelled', () => parlour.door.book.sums().cancelled === 2);
    expectBalanced(parlour);
    parlour.release('a');
    expect((await parlour.call('Parlour.ping')).status).toBe(200);
    expect(parlour.door.ran.map(({ method }) => method)).toEqual(['wait', 'ping']);
  });
});

describe('hostile requests', () => {
  test('nested deeper than the limit are refused before anything parses them, at the limit they are not', async () => {
    const parlour = await start();
    const nested = (depth: number): string =>
      `{"jsonrpc":"2.0","id":1,"method":"Parlour.ping","params":${'['.repeat(depth)}${']'.repeat(depth)}}`;
    const deep = await parlour.post(nested(65 + 1));
    expect([deep.status, deep.json.error?.code, deep.json.id]).toEqual([400, -32600, null]);
    expect(deep.json.error?.message).toContain('limit is 64');
    expect((await parlour.post(nested(64))).json.error?.code).toBe(-32602);
    expect((await parlour.post('['.repeat(1_000_000))).json.error?.message).toContain('nested too deep');
    const text = JSON.stringify('[{'.repeat(1_000) + String.raw`\"`);
    expect((await parlour.call('Parlour.tell', [JSON.parse(text)])).status).toBe(200);
  });

  test('larger than the limit are -32008 with status 413, declared or not', async () => {
    const parlour = await start({ limits: { frameBytesMax: 1_000 } });
    const declared = await parlour.call('Parlour.tell', ['x'.repeat(2_000)]);
    expect([declared.status, declared.json.error?.code, declared.json.error?.data]).toEqual([
      413,
      -32008,
      { code: 'too_large' },
    ]);
    const chunked = await rawClient(
      parlour.server.port,
      'POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    chunked.write(`5dc\r\n${'x'.repeat(1_500)}\r\n`);
    expect(await chunked.closed()).toMatch(/^HTTP\/1\.1 413 [^]*-32008/);
  });

  test('of any shape leave good calls and the book as they were', async () => {
    const parlour = await start();
    for (const body of [
      '\0',
      '{"jsonrpc":"2.0","id":1,"method":"\0.\0"}',
      '{"__proto__":{"jsonrpc":"2.0","method":"Parlour.ping","id":1}}',
      '{"jsonrpc":"2.0","id":1,"method":"__proto__.constructor"}',
      '{"jsonrpc":"2.0","id":1,"method":"constructor.toString"}',
      '{"jsonrpc":"2.0","id":1,"method":"Parlour.__proto__"}',
      '{"jsonrpc":"2.0","id":1,"method":"Parlour.toString"}',
      '{"jsonrpc":"2.0","id":1,"method":""}',
      '{"jsonrpc":"2.0","id":1,"method":"."}',
      '{"jsonrpc":"2.0","id":1,"method":"@."}',
      `{"jsonrpc":"2.0","id":1,"method":"${'x'.repeat(100_000)}.y"}`,
      `{"jsonrpc":"2.0","id":1,"method":"Parlour@${'9'.repeat(5_000)}.ping"}`,
      `{"jsonrpc":"2.0","id":${'9'.repeat(100_000)},"method":"Parlour.nothing"}`,
      '"',
      '"\\',
      '[',
      '{"a":1e99999}',
      '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":{"a":1e999,"b":1}}',
      '-',
      '--1234567890123456789',
      '1234567890123456789e',
    ]) {
      const answer = await parlour.post(body);
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
      expect(answer.json.error?.message).not.toBe('');
    }
    expect((await parlour.post(PING)).json.result).toBe(null);
    expect(parlour.door.ran.length).toBe(1);
    expectBalanced(parlour);
  });

  test('that are not complete in time are told so, in the words of JSON-RPC', async () => {
    const parlour = await start({ limits: { requestMs: 300 } });
    const client = await rawClient(parlour.server.port, httpPost(PING).slice(0, -5));
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 408 [^]*"code":-32600/);
    expectBalanced(parlour);
  });
});

describe('paths and methods', () => {
  test('that are not there are 404 with those that are, wrong methods 405 with Allow', async () => {
    const parlour = await start();
    const missing = await fetch(`${parlour.url}/nothing`);
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain('POST /rpc, POST /rpc/Service[@version], GET /openrpc.json');
    for (const [method, path, allow] of [
      ['GET', '/rpc', 'POST, OPTIONS'],
      ['PUT', '/rpc/Parlour', 'POST, OPTIONS'],
      ['POST', '/openrpc.json', 'GET, HEAD, OPTIONS'],
      ['DELETE', '/idl/Parlour.thrift', 'GET, HEAD, OPTIONS'],
      ['POST', '/', 'GET, HEAD, OPTIONS'],
    ] as const) {
      const answer = await fetch(parlour.url + path, { method });
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, allow]);
      expect(await answer.text()).toContain(`use ${allow}`);
    }
  });
});

describe('web pages', () => {
  const call = (parlour: Parlour, origin: string, method = 'POST'): Promise<Response> =>
    fetch(`${parlour.url}/rpc`, { method, headers: { origin }, ...(method === 'POST' ? { body: PING } : {}) });

  test('of other origins may not call, nor read anything', async () => {
    const parlour = await start();
    for (const origin of ['https://evil.example', 'null', 'http://localhost:3000']) {
      const answer = await call(parlour, origin);
      expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([403, null]);
      expect(await answer.text()).toContain('"denied"');
      expect((await call(parlour, origin, 'OPTIONS')).status).toBe(403);
      expect((await fetch(`${parlour.url}/openrpc.json`, { headers: { origin } })).status).toBe(403);
    }
    expect(parlour.door.ran.length).toBe(0);
    expectBalanced(parlour);
  });

  test('of origins that are allowed may, after their preflight', async () => {
    const parlour = await start({ allowedOrigins: ['https://app.example'] });
    const preflight = await call(parlour, 'https://app.example', 'OPTIONS');
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(preflight.headers.get('access-control-allow-methods')).toContain('POST');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('katamari-version');
    const answer = await call(parlour, 'https://app.example');
    expect([answer.status, answer.headers.get('access-control-allow-origin'), answer.headers.get('vary')]).toEqual([
      200,
      'https://app.example',
      'Origin',
    ]);
    expect(answer.headers.get('access-control-expose-headers')).toContain('katamari-version');
    expect((await call(parlour, 'https://evil.example')).status).toBe(403);
  });

  test('are not meant by an OPTIONS without an origin', async () => {
    const parlour = await start();
    const answer = await fetch(`${parlour.url}/rpc`, { method: 'OPTIONS' });
    expect([answer.status, answer.headers.get('allow'), answer.headers.get('access-control-allow-methods')]).toEqual([
      204,
      'POST, OPTIONS',
      null,
    ]);
  });
});

describe('the admin token', () => {
  const katamari = new URL('../../../idl/katamari.thrift', import.meta.url).pathname;
  const tokens: string[] = [];
  const handlers = new Proxy({} as Record<string, () => unknown>, {
    get: (_target, name) =>
      name === 'getSettings' ? ({ token }: { token: string }) => (tokens.push(token), { timeoutMs: 5n }) : () => ({}),
    ownKeys: () => [],
  }) as never;

  test('of an Authorization header becomes the first argument of the admin service, and of no other', async () => {
    const parlour = await start({
      pools: (own) => [
        {
          idl: new URL('../../fixtures/idl/parlour.thrift', import.meta.url).pathname,
          service: 'Parlour',
          handlers: own,
        },
        { idl: katamari, service: 'Katamari', handlers },
      ],
    });
    const headers = { authorization: 'Bearer secret' };
    for (const params of [undefined, {}, [], { token: 'own' }]) {
      expect((await parlour.call('Katamari.getSettings', params, headers)).json.result).toEqual({ timeoutMs: 5 });
    }
    expect((await parlour.call('Katamari.getSettings', ['own'], headers)).status).toBe(200);
    expect(tokens).toEqual(['secret', 'secret', 'secret', 'own', 'own']);
    expect((await parlour.call('Katamari.getSettings')).json.error?.code).toBe(-32602);
    expect((await parlour.call('Parlour.ping', {}, headers)).status).toBe(200);
  });
});

describe('drain()', () => {
  test('finishes the calls under way, has one more of each idle connection, and refuses the ones that come after', async () => {
    const parlour = await start();
    const working = await rawClient(parlour.server.port, httpPost(waitFor('a')));
    await until('the call to be in its handler', () => parlour.door.ran.length === 1);
    const late = await rawClient(parlour.server.port, httpPost(PING).slice(0, -5));
    const fence = await rawClient(parlour.server.port, httpPost('1'));
    await fence.seen(/-32600/);
    const again = await rawClient(parlour.server.port, httpPost('1'));
    await again.seen(/-32600/);
    const drained = parlour.server.drain();
    again.write(httpPost('{"jsonrpc":"2.0","id":2,"method":"rpc.discover"}'));
    expect(await again.closed()).toMatch(/HTTP\/1\.1 200 [^]*connection: close[^]*"result"/i);
    await fence.closed();
    late.write(httpPost(PING).slice(-5));
    const refused = await late.closed();
    expect(refused).toMatch(/^HTTP\/1\.1 503 [^]*connection: close/i);
    expect(refused).toContain('-32005');
    parlour.release('a');
    expect(await working.closed()).toMatch(/^HTTP\/1\.1 200 [^]*"result":"a"/);
    await drained;
    expect(parlour.server.connections()).toBe(0);
    expectBalanced(parlour);
  });
});
