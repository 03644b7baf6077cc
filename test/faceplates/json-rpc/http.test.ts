// HTTP around the calls: headers, refusals, limits, origins, clients that disconnect, shutdown.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { startFixture, type JsonRpcFixture } from './fixture.ts';

const PING = '{"jsonrpc":"2.0","id":1,"method":"Fixture.ping"}';
const waitFor = (name: string): string =>
  JSON.stringify({ jsonrpc: '2.0', id: name, method: 'Fixture.wait', params: { name } });

/** A request in bytes, as a client without a library writes it. */
function httpPost(body: string, headers = ''): string {
  return `POST /rpc HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const started: JsonRpcFixture[] = [];
async function start(...options: Parameters<typeof startFixture>): Promise<JsonRpcFixture> {
  const fixture = await startFixture(...options);
  started.push(fixture);
  return fixture;
}
afterEach(async () => {
  for (const fixture of started.splice(0)) await fixture.end();
});

/** Counters that must add up whenever no call is in flight. */
function expectBalanced({ mesh }: JsonRpcFixture): void {
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = mesh.callStats.sums();
  expect(inFlight).toBe(0);
  expect(replied + failed + refused + timed_out + cancelled).toBe(accepted);
}

describe('headers', () => {
  let fixture: JsonRpcFixture;
  beforeAll(async () => {
    fixture = await startFixture({
      pools: (handlers) => {
        const idl = new URL('../../fixtures/idl/fixture.thrift', import.meta.url).pathname;
        return [
          { idl, service: 'Fixture', version: '1.0.0', handlers },
          { idl, service: 'Fixture', version: '1.2.0', tags: ['fast', 'new'], handlers },
          { idl, service: 'Fixture', version: '2.0.0', roles: ['staging'], handlers },
        ];
      },
    });
  });
  afterAll(() => fixture.end());

  const context = async (
    headers: Readonly<Record<string, string>>,
    method = 'Fixture.context',
  ): Promise<Record<string, string>> => (await fixture.call(method, {}, headers)).json.result as Record<string, string>;

  test('katamari-version selects the version, and the answer names it', async () => {
    for (const [wanted, got] of [
      ['1.0.0', '1.0.0'],
      ['1.2.0', '1.2.0'],
      ['^1.0.0', '1.2.0'],
    ] as const) {
      const answer = await fixture.call('Fixture.ping', undefined, { 'katamari-version': wanted });
      expect([answer.status, answer.headers.get('katamari-version')]).toEqual([200, got]);
    }
    const own = await fixture.call('Fixture@1.0.0.ping', undefined, { 'katamari-version': '1.2.0' });
    expect(own.headers.get('katamari-version')).toBe('1.0.0');
    const none = await fixture.call('Fixture.ping', undefined, { 'katamari-version': '3' });
    expect([none.status, none.json.error?.code]).toEqual([200, -32001]);
  });

  test('katamari-roles is a strict filter, katamari-tags a preference', async () => {
    expect((await context({ 'katamari-roles': 'staging' }))['version']).toBe('2.0.0');
    const walled = await fixture.call('Fixture.ping', undefined, { 'katamari-roles': 'production' });
    expect(walled.json.error?.code).toBe(-32001);
    const tagged = await context({ 'katamari-tags': 'fast, unheard-of' });
    expect([tagged['version'], tagged['tags']]).toEqual(['1.2.0', 'fast unheard-of']);
  });

  test('katamari-key and the trace reach the chassis, and an invalid trace does not', async () => {
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

  test('katamari-key and katamari-tags are UTF-8, as by THeader; other bytes are refused', async () => {
    const ask = async (headers: Buffer): Promise<string> => {
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Fixture.context', params: {} });
      const head = `POST /rpc HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n`;
      const client = await rawClient(
        fixture.server.port,
        Buffer.concat([Buffer.from(head), headers, Buffer.from(`\r\n\r\n${body}`)]),
      );
      return Buffer.from(await client.closed(), 'latin1').toString();
    };
    for (const key of ['jürgen', 'voilà', '乳酪 🧀']) {
      const answer = await ask(Buffer.from(`katamari-key: ${key}\r\nkatamari-tags: größe, à`));
      expect(answer).toContain(`"key":"${key}","tags":"größe à"`);
    }
    for (const name of ['key', 'tags', 'roles', 'version']) {
      const answer = await ask(Buffer.from(`katamari-${name}: j\xfcrgen`, 'latin1'));
      expect(answer).toMatch(new RegExp(`Header katamari-${name}: expected text in UTF-8, got \\\\"jürgen`));
    }
  });

  test('katamari-timeout-ms can shorten the deadline but not extend it', async () => {
    expect(Number((await context({ 'katamari-timeout-ms': '500' }))['timeLeftMs'])).toBeLessThanOrEqual(500);
    const long = Number((await context({ 'katamari-timeout-ms': '99999999' }))['timeLeftMs']);
    expect(long).toBeLessThanOrEqual(10_000);
    expect(long).toBeGreaterThan(500);
    for (const wrong of ['0', '-5', '1.5', 'soon', '5, 6', '1e3']) {
      const answer = await fixture.call('Fixture.ping', undefined, { 'katamari-timeout-ms': wrong });
      expect([answer.status, answer.json.error?.code]).toEqual([200, -32600]);
      expect(answer.json.error?.message).toContain(
        `katamari-timeout-ms: expected a whole number of milliseconds above 0, got "${wrong}"`,
      );
    }
    for (const wrong of ['1.01', '-0.5', 'half', '0.5, 0.6', 'NaN', '']) {
      const answer = await fixture.call('Fixture.ping', undefined, { 'katamari-min-coverage': wrong });
      const why = `Header katamari-min-coverage: expected a share from 0 to 1, got "${wrong}"`;
      expect(answer.json.error?.message).toBe(wrong === '' ? undefined : why);
    }
    const twice = await rawClient(
      fixture.server.port,
      httpPost(PING, 'Katamari-Timeout-Ms: 100\r\nKatamari-Timeout-Ms: 200\r\n'),
    );
    expect(await twice.seen(/100, 200/)).toMatch(/^HTTP\/1\.1 200 /);
    twice.destroy();
  });
});

describe('calls that fail', () => {
  test('with a declared exception are -32050 with its fields, and status 200', async () => {
    const fixture = await start();
    const answer = await fixture.call('Fixture.refuse', { why: 'because', number: '9223372036854775807' });
    expect(answer.status).toBe(200);
    expect(answer.json.error).toEqual({
      code: -32050,
      message: 'Refused: because',
      data: { exception: 'Refused', why: 'because', number: '9223372036854775807' },
    });
    expect(answer.headers.get('katamari-version')).toBe('1.0.0');
    const stats = fixture.mesh.callStats.of('json-rpc', 'Fixture', 'refuse');
    expect([stats.replied, stats.exceptions]).toEqual([1, 1]);
  });

  test('because a handler threw are -32603 with its message and without its stack, and status 200', async () => {
    const fixture = await start();
    const answer = await fixture.call('Fixture.crash');
    expect(answer.status).toBe(200);
    expect([answer.json.error?.code, answer.json.error?.data]).toEqual([-32603, { code: 'application' }]);
    expect(answer.json.error?.message).toContain('a wheel came off');
    expect(answer.text).not.toContain('.ts:');
  });

  test('at their deadline name the stage', async () => {
    const fixture = await start();
    const service = fixture.call('Fixture.wait', { name: 'a' }, { 'katamari-timeout-ms': '100' });
    await until('the first to be in its handler', () => fixture.mesh.ran.length === 1);
    const queue = await fixture.call('Fixture.ping', {}, { 'katamari-timeout-ms': '50' });
    expect([queue.status, queue.json.error?.code, queue.json.error?.data]).toEqual([
      200,
      -32003,
      { code: 'timeout', stage: 'queue' },
    ]);
    expect((await service).json.error?.data).toEqual({ code: 'timeout', stage: 'service' });
    fixture.release('a');
    expectBalanced(fixture);
    expect(fixture.mesh.callStats.sums().timed_out).toBe(2);
  });

  test('because a queue is full have Retry-After in whole seconds', async () => {
    const fixture = await start({
      pools: (handlers) => [
        {
          idl: new URL('../../fixtures/idl/fixture.thrift', import.meta.url).pathname,
          service: 'Fixture',
          handlers,
          queueMax: 0,
        },
      ],
    });
    const busy = fixture.call('Fixture.wait', { name: 'a' });
    await until('the first to be in its handler', () => fixture.mesh.ran.length === 1);
    const answer = await fixture.call('Fixture.ping');
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([200, '2']);
    expect([answer.json.error?.code, answer.json.error?.data]).toEqual([
      -32002,
      { code: 'overloaded', retryAfterMs: 1200 },
    ]);
    fixture.release('a');
    expect((await busy).json.result).toBe('a');
    expectBalanced(fixture);
  });

  test('have the HTTP status of their error when the request or the configuration asks for it', async () => {
    const byDefault = await start();
    const configured = await start({ errorStatus: true });
    const wants = (fixture: JsonRpcFixture, headers: Readonly<Record<string, string>>): Promise<unknown[]> =>
      Promise.all(
        [
          '{"jsonrpc":"2.0","id":1,"method":"Nobody.nothing"}',
          '{"jsonrpc":"2.0","id":1,"method":"Fixture@9.ping"}',
          '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":[1]}',
          '{',
          '[]',
          '{"id":1}',
          '{"jsonrpc":"2.0","id":1,"method":"Fixture.refuse","params":["why",5]}',
          PING,
          `[${PING},{}]`,
        ].map(async (body) => (await fixture.post(body, headers)).status),
      );
    const statuses = [404, 404, 400, 400, 400, 400, 200, 200, 200];
    const all200 = statuses.map(() => 200);
    expect(await wants(byDefault, {})).toEqual(all200);
    expect(await wants(byDefault, { 'katamari-error-status': 'true' })).toEqual(statuses);
    expect(await wants(configured, {})).toEqual(statuses);
    expect(await wants(configured, { 'katamari-error-status': 'false' })).toEqual(all200);
    const wrong = await byDefault.call('Fixture.ping', {}, { 'katamari-error-status': 'yes' });
    expect([wrong.status, wrong.json.error?.code]).toEqual([200, -32600]);
    expect(wrong.json.error?.message).toContain('katamari-error-status: expected true or false, got "yes"');
  });

  test('in a batch do not change the status of the whole response', async () => {
    const fixture = await start();
    const answer = await fixture.post(`[${PING},{"jsonrpc":"2.0","id":2,"method":"Fixture.nothing"}]`);
    expect(answer.status).toBe(200);
  });
});

describe('the call statistics', () => {
  test('count every call once under its name, and unknown names under -', async () => {
    const fixture = await start({ limits: { batchMax: 2, frameBytesMax: 10_000 } });
    await fixture.call('Fixture.ping');
    await fixture.call('Fixture.addLong', { a: 'x', b: 1 });
    await fixture.call('Fixture@9.ping');
    for (let i = 0; i < 5; i++) await fixture.call(`Stranger${i}.method${i}`);
    await fixture.post('no json');
    await fixture.post('[1,{}]');
    await fixture.post('[1,2,3]');
    await fixture.post(`"${'x'.repeat(20_000)}"`);
    await fixture.call('rpc.discover');
    const { callStats } = fixture.mesh;
    const counted = [...callStats.entries()].map(
      ({ service, method, stats }) => `${service}.${method} ${stats.accepted} ${stats.replied} ${stats.refused}`,
    );
    expect(counted.sort()).toEqual(['-.- 11 1 10', 'Fixture.addLong 1 0 1', 'Fixture.ping 2 1 1']);
    expectBalanced(fixture);
  });
});

describe('clients that disconnect', () => {
  test('have their call counted as cancelled at once, and a queued call never runs', async () => {
    const fixture = await start();
    const working = await rawClient(fixture.server.port, httpPost(waitFor('a')));
    await until('the first to be in its handler', () => fixture.mesh.ran.length === 1);
    const queued = await rawClient(fixture.server.port, httpPost(PING));
    await until('the second to wait', () => fixture.mesh.directory.pools()[0]?.queued === 1);
    queued.disconnect();
    await until('the second to be cancelled', () => fixture.mesh.callStats.sums().cancelled === 1);
    expect(fixture.mesh.directory.pools()[0]?.queued).toBe(0);
    working.disconnect();
    await until('the first to be cancelled', () => fixture.mesh.callStats.sums().cancelled === 2);
    expectBalanced(fixture);
    fixture.release('a');
    expect((await fixture.call('Fixture.ping')).status).toBe(200);
    expect(fixture.mesh.ran.map(({ method }) => method)).toEqual(['wait', 'ping']);
  });
});

describe('hostile requests', () => {
  test('nested deeper than the limit are refused before they are parsed, and at the limit they are not', async () => {
    const fixture = await start();
    const nested = (depth: number): string =>
      `{"jsonrpc":"2.0","id":1,"method":"Fixture.ping","params":${'['.repeat(depth)}${']'.repeat(depth)}}`;
    const deep = await fixture.post(nested(65 + 1));
    expect([deep.status, deep.json.error?.code, deep.json.id]).toEqual([200, -32600, null]);
    expect(deep.json.error?.message).toContain('limit is 64');
    expect((await fixture.post(nested(64))).json.error?.code).toBe(-32602);
    expect((await fixture.post('['.repeat(1_000_000))).json.error?.message).toContain('nested too deep');
    const text = JSON.stringify('[{'.repeat(1_000) + String.raw`\"`);
    expect((await fixture.call('Fixture.tell', [JSON.parse(text)])).status).toBe(200);
  });

  test('larger than the limit are -32008 with status 413, whether declared or not', async () => {
    const fixture = await start({ limits: { frameBytesMax: 1_000 } });
    const declared = await fixture.call('Fixture.tell', ['x'.repeat(2_000)]);
    expect([declared.status, declared.json.error?.code, declared.json.error?.data]).toEqual([
      413,
      -32008,
      { code: 'too_large' },
    ]);
    const chunked = await rawClient(
      fixture.server.port,
      'POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    chunked.write(`5dc\r\n${'x'.repeat(1_500)}\r\n`);
    expect(await chunked.closed()).toMatch(/^HTTP\/1\.1 413 [^]*-32008/);
  });

  test('of any kind leave good calls and the statistics intact', async () => {
    const fixture = await start();
    for (const body of [
      '\0',
      '{"jsonrpc":"2.0","id":1,"method":"\0.\0"}',
      '{"__proto__":{"jsonrpc":"2.0","method":"Fixture.ping","id":1}}',
      '{"jsonrpc":"2.0","id":1,"method":"__proto__.constructor"}',
      '{"jsonrpc":"2.0","id":1,"method":"constructor.toString"}',
      '{"jsonrpc":"2.0","id":1,"method":"Fixture.__proto__"}',
      '{"jsonrpc":"2.0","id":1,"method":"Fixture.toString"}',
      '{"jsonrpc":"2.0","id":1,"method":""}',
      '{"jsonrpc":"2.0","id":1,"method":"."}',
      '{"jsonrpc":"2.0","id":1,"method":"@."}',
      `{"jsonrpc":"2.0","id":1,"method":"${'x'.repeat(100_000)}.y"}`,
      `{"jsonrpc":"2.0","id":1,"method":"Fixture@${'9'.repeat(5_000)}.ping"}`,
      `{"jsonrpc":"2.0","id":${'9'.repeat(100_000)},"method":"Fixture.nothing"}`,
      '"',
      '"\\',
      '[',
      '{"a":1e99999}',
      '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":{"a":1e999,"b":1}}',
      '-',
      '--1234567890123456789',
      '1234567890123456789e',
    ]) {
      const answer = await fixture.post(body);
      expect(answer.status).toBe(200);
      expect(answer.json.error?.message).toMatch(/./);
    }
    expect((await fixture.post(PING)).json.result).toBe(null);
    expect(fixture.mesh.ran.length).toBe(1);
    expectBalanced(fixture);
  });

  test('that are incomplete after the time limit get a JSON-RPC error', async () => {
    const fixture = await start({ limits: { requestMs: 300 } });
    const client = await rawClient(fixture.server.port, httpPost(PING).slice(0, -5));
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 408 [^]*"code":-32600/);
    expectBalanced(fixture);
  });
});

describe('paths and methods', () => {
  test('that do not exist are 404 with a list, and wrong methods 405 with Allow', async () => {
    const fixture = await start();
    const missing = await fetch(`${fixture.url}/nothing`);
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain('POST /rpc, POST /rpc/Service[@version], GET /openrpc.json');
    for (const [method, path, allow] of [
      ['GET', '/rpc', 'POST, OPTIONS'],
      ['PUT', '/rpc/Fixture', 'POST, OPTIONS'],
      ['POST', '/openrpc.json', 'GET, HEAD, OPTIONS'],
      ['DELETE', '/idl/Fixture.thrift', 'GET, HEAD, OPTIONS'],
      ['POST', '/', 'GET, HEAD, OPTIONS'],
    ] as const) {
      const answer = await fetch(fixture.url + path, { method });
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, allow]);
      expect(await answer.text()).toContain(`use ${allow}`);
    }
  });
});

describe('web pages', () => {
  const call = (fixture: JsonRpcFixture, origin: string, method = 'POST'): Promise<Response> =>
    fetch(`${fixture.url}/rpc`, {
      method,
      headers: { origin, 'content-type': 'application/json' },
      ...(method === 'POST' ? { body: PING } : {}),
    });

  test('of other origins can neither call nor read anything', async () => {
    const fixture = await start();
    for (const origin of ['https://evil.example', 'null', 'http://localhost:3000']) {
      const answer = await call(fixture, origin);
      expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([403, null]);
      expect(await answer.text()).toContain('"denied"');
      expect((await call(fixture, origin, 'OPTIONS')).status).toBe(403);
      expect((await fetch(`${fixture.url}/openrpc.json`, { headers: { origin } })).status).toBe(403);
    }
    expect(fixture.mesh.ran.length).toBe(0);
    expectBalanced(fixture);
  });

  test('of allowed origins can call after their preflight', async () => {
    const fixture = await start({ origins: ['https://app.example'] });
    const preflight = await call(fixture, 'https://app.example', 'OPTIONS');
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(preflight.headers.get('access-control-allow-methods')).toContain('POST');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('katamari-version');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('katamari-error-status');
    const answer = await call(fixture, 'https://app.example');
    expect([answer.status, answer.headers.get('access-control-allow-origin'), answer.headers.get('vary')]).toEqual([
      200,
      'https://app.example',
      'Origin',
    ]);
    expect(answer.headers.get('access-control-expose-headers')).toContain('katamari-version');
    expect((await call(fixture, 'https://evil.example')).status).toBe(403);
  });

  test('are not assumed for an OPTIONS without an origin', async () => {
    const fixture = await start();
    const answer = await fetch(`${fixture.url}/rpc`, { method: 'OPTIONS' });
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

  test('in an Authorization header becomes the first argument of the admin service, and of no other service', async () => {
    const fixture = await start({
      pools: (own) => [
        {
          idl: new URL('../../fixtures/idl/fixture.thrift', import.meta.url).pathname,
          service: 'Fixture',
          handlers: own,
        },
        { idl: katamari, service: 'Katamari', handlers },
      ],
    });
    const headers = { authorization: 'Bearer secret' };
    for (const params of [undefined, {}, [], { token: 'own' }]) {
      expect((await fixture.call('Katamari.getSettings', params, headers)).json.result).toEqual({ timeoutMs: 5 });
    }
    expect((await fixture.call('Katamari.getSettings', ['own'], headers)).status).toBe(200);
    expect(tokens).toEqual(['secret', 'secret', 'secret', 'own', 'own']);
    expect((await fixture.call('Katamari.getSettings')).json.error?.code).toBe(-32602);
    expect((await fixture.call('Fixture.ping', {}, headers)).status).toBe(200);
  });
});

describe('drain()', () => {
  test('finishes calls in flight, accepts one more on each idle connection, and refuses later ones', async () => {
    const fixture = await start();
    const working = await rawClient(fixture.server.port, httpPost(waitFor('a')));
    await until('the call to be in its handler', () => fixture.mesh.ran.length === 1);
    const late = await rawClient(fixture.server.port, httpPost(PING).slice(0, -5));
    const fence = await rawClient(fixture.server.port, httpPost('1'));
    await fence.seen(/-32600/);
    const again = await rawClient(fixture.server.port, httpPost('1'));
    await again.seen(/-32600/);
    const drained = fixture.server.drain();
    again.write(httpPost('{"jsonrpc":"2.0","id":2,"method":"rpc.discover"}'));
    expect(await again.closed()).toMatch(/HTTP\/1\.1 200 [^]*connection: close[^]*"result"/i);
    await fence.closed();
    late.write(httpPost(PING).slice(-5));
    const refused = await late.closed();
    expect(refused).toMatch(/^HTTP\/1\.1 200 [^]*connection: close[^]*-32005/i);
    expect(refused).toContain('-32005');
    fixture.release('a');
    expect(await working.closed()).toMatch(/^HTTP\/1\.1 200 [^]*"result":"a"/);
    await drained;
    expect(fixture.server.connections()).toBe(0);
    expectBalanced(fixture);
  });
});
