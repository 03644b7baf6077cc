// JSON-RPC 2.0 as specified, with a real server and real clients.

import jayson from 'jayson';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFixture, type Json, type JsonRpcFixture } from './fixture.ts';

let fixture: JsonRpcFixture;
beforeAll(async () => {
  fixture = await startFixture({ limits: { batchMax: 10 } });
});
afterAll(() => fixture.end());

const ADD = { jsonrpc: '2.0', method: 'Fixture.addLong', params: { a: 1, b: 2 } };

describe('a single request', () => {
  test('is answered with its result, version and times', async () => {
    const answer = await fixture.post(JSON.stringify({ ...ADD, id: 'a' }));
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({ jsonrpc: '2.0', id: 'a', result: 3 });
    expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
    expect(answer.headers.get('katamari-version')).toBe('1.0.0');
    expect(answer.headers.get('server-timing')).toMatch(/^queue;dur=[\d.]+, service;dur=[\d.]+$/);
  });

  test('may pass its params by position, or none at all', async () => {
    expect((await fixture.call('Fixture.addLong', [20, 22])).json.result).toBe(42);
    expect((await fixture.call('Fixture.ping')).json).toEqual({ jsonrpc: '2.0', id: 1, result: null });
    expect((await fixture.call('Fixture.ping', [])).json.result).toBe(null);
    expect((await fixture.call('Fixture.ping', {})).json.result).toBe(null);
  });

  for (const id of [
    '0',
    '"text"',
    '""',
    'null',
    '0',
    '-7',
    '1.5',
    '9007199254740993',
    '123456789012345678901234567890',
    '"whole0:1234567890123456"',
  ]) {
    test(`with id ${id} is answered with that id`, async () => {
      const answer = await fixture.post(`{"jsonrpc":"2.0","id":${id},"method":"Fixture.ping"}`);
      expect(answer.text).toBe(`{"jsonrpc":"2.0","id":${id},"result":null}`);
    });
  }

  test('without an id runs and is never answered', async () => {
    const before = fixture.mesh.ran.length;
    for (const request of [ADD, { ...ADD, method: 'Fixture.nothing' }, { jsonrpc: '2.0', method: 'Fixture.crash' }]) {
      const answer = await fixture.post(JSON.stringify(request));
      expect(answer.status).toBe(204);
      expect(answer.text).toBe('');
    }
    expect(fixture.mesh.ran.length).toBe(before + 2);
  });

  test('of a oneway method is answered with null', async () => {
    expect((await fixture.call('Fixture.tell', { what: 'x' })).json).toEqual({ jsonrpc: '2.0', id: 1, result: null });
  });

  test('may name the version, a range of versions, or leave the service to the path', async () => {
    for (const method of ['Fixture@1.0.0.ping', 'Fixture@^1.0.ping', 'Fixture@1.x.ping', 'ping']) {
      expect((await fixture.call(method)).json).toEqual({ jsonrpc: '2.0', id: 1, result: null });
    }
    const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
    for (const path of ['/rpc/Fixture', '/rpc/Fixture@1.0.0', '/rpc/Fixture@%5E1.0']) {
      expect((await fixture.post(ping, {}, path)).json).toEqual({ jsonrpc: '2.0', id: 1, result: null });
    }
  });

  test('for an unknown method is -32601, for a missing pool -32001', async () => {
    const nowhere = await fixture.call('Fixture.nothing');
    expect([nowhere.status, nowhere.json.error?.code, nowhere.json.error?.data]).toEqual([
      200,
      -32601,
      { code: 'no_pool' },
    ]);
    const noPool = await fixture.call('Fixture@3.ping');
    expect([noPool.status, noPool.json.error?.code, noPool.json.error?.data]).toEqual([
      200,
      -32001,
      { code: 'no_pool' },
    ]);
    expect(noPool.json.error?.message).toContain('1.0.0 (1 resource)');
    expect((await fixture.call('rpc.nothing')).json.error?.code).toBe(-32601);
  });

  for (const [name, body, code, said] of [
    ['no JSON', '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700, 'not JSON'],
    ['nothing', '', -32700, 'not JSON'],
    ['bytes that are not UTF-8', new Uint8Array([0x22, 0xff, 0xfe, 0x22]), -32700, 'UTF-8'],
    [
      'a method that is no string',
      '{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
      -32600,
      'method: expected a string, got 1',
    ],
    [
      'params that are no structure',
      '{"jsonrpc":"2.0","method":"Fixture.ping","params":"bar","id":1}',
      -32600,
      'params: expected',
    ],
    [
      'params that are null',
      '{"jsonrpc":"2.0","method":"Fixture.ping","params":null,"id":1}',
      -32600,
      'params: expected',
    ],
    ['no jsonrpc', '{"method":"Fixture.ping","id":1}', -32600, 'jsonrpc: expected "2.0", got nothing'],
    [
      'another jsonrpc',
      '{"jsonrpc":"1.0","method":"Fixture.ping","id":1}',
      -32600,
      'jsonrpc: expected "2.0", got "1.0"',
    ],
    ['an id that is an object', '{"jsonrpc":"2.0","method":"Fixture.ping","id":{}}', -32600, 'id: expected'],
    ['an id that is true', '{"jsonrpc":"2.0","method":"Fixture.ping","id":true}', -32600, 'id: expected'],
    ['an id beyond all numbers', '{"jsonrpc":"2.0","method":"Fixture.ping","id":1e400}', -32600, 'too large'],
    ['a number', '1', -32600, 'expected an object, got 1'],
    ['null', 'null', -32600, 'expected an object, got null'],
    [
      'a string that holds a request',
      JSON.stringify('{"jsonrpc":"2.0","method":"Fixture.ping","id":1}'),
      -32600,
      'expected an object',
    ],
    ['an empty batch', '[]', -32600, 'batch is empty'],
  ] as const) {
    test(`that is ${name} is ${code} with status 200 and id null`, async () => {
      const answer = await fixture.post(body);
      expect([answer.status, answer.json.error?.code, answer.json.id]).toEqual([200, code, null]);
      expect(answer.json.error?.message).toContain(said);
      expect(answer.json.error?.data).toEqual({ code: 'bad_request' });
    });
  }

  test('may begin with a byte order mark', async () => {
    expect((await fixture.post('\uFEFF{"jsonrpc":"2.0","id":1,"method":"Fixture.ping"}')).json.result).toBe(null);
  });
});

describe('a batch', () => {
  const send = async (batch: unknown): Promise<{ status: number; json: readonly Json[]; text: string }> => {
    const answer = await fixture.post(typeof batch === 'string' ? batch : JSON.stringify(batch));
    return { status: answer.status, json: answer.json as unknown as readonly Json[], text: answer.text };
  };

  test('of requests and notifications is answered in order without the notifications', async () => {
    const { status, json } = await send([
      { jsonrpc: '2.0', method: 'Fixture.addLong', params: [1, 2], id: '1' },
      { jsonrpc: '2.0', method: 'Fixture.tell', params: ['seven'] },
      { jsonrpc: '2.0', method: 'Fixture.half', params: [42], id: '2' },
      { foo: 'boo' },
      { jsonrpc: '2.0', method: 'Fixture.get', params: { name: 'myself' }, id: '5' },
      { jsonrpc: '2.0', method: 'Fixture.echo', params: [{}], id: null },
    ]);
    expect(status).toBe(200);
    expect(json.map(({ id, result, error }) => [id, result ?? error?.code])).toEqual([
      ['1', 3],
      ['2', 21],
      [null, -32600],
      ['5', -32601],
      [null, { defaulted: 7 }],
    ]);
  });

  test('of one invalid value, and of three, is an array of as many errors', async () => {
    expect((await send('[1]')).json.map(({ id, error }) => [id, error?.code])).toEqual([[null, -32600]]);
    expect((await send('[1,2,3]')).json.map(({ error }) => error?.code)).toEqual([-32600, -32600, -32600]);
  });

  test('with nested arrays answers each of them', async () => {
    expect((await send('[[]]')).json.map(({ error }) => error?.code)).toEqual([-32600]);
    const mixed = await send([[ADD], { ...ADD, id: 1 }]);
    expect(mixed.json.map(({ result, error }) => result ?? error?.code)).toEqual([-32600, 3]);
  });

  test('that is not well-formed is one error', async () => {
    const { status, text } = await send(
      '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
    );
    expect(status).toBe(200);
    expect((JSON.parse(text) as Json).error?.code).toBe(-32700);
  });

  test('of notifications only is not answered', async () => {
    const answer = await fixture.post(JSON.stringify([ADD, ADD]));
    expect([answer.status, answer.text]).toEqual([204, '']);
  });

  test('longer than the limit is refused as a whole', async () => {
    const before = fixture.mesh.ran.length;
    const answer = await fixture.post(JSON.stringify(Array.from({ length: 11 }, () => ADD)));
    expect([answer.status, answer.json.error?.code]).toEqual([200, -32008]);
    expect(answer.json.error?.message).toContain('11 requests, limit is 10');
    expect(fixture.mesh.ran.length).toBe(before);
  });

  test('runs in parallel', async () => {
    const many = await startFixture({
      pools: (handlers) => [
        {
          idl: new URL('../../fixtures/idl/fixture.thrift', import.meta.url).pathname,
          service: 'Fixture',
          handlers,
          resources: 2,
        },
      ],
    });
    const batch = many.post(
      JSON.stringify(
        ['first', 'second'].map((name) => ({ jsonrpc: '2.0', id: name, method: 'Fixture.wait', params: { name } })),
      ),
    );
    // Both must be inside their handlers before either may end, and in an order impossible in sequence.
    const deadline = performance.now() + 10_000;
    while (many.mesh.ran.length < 2 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 5));
    many.release('second');
    many.release('first');
    const answers = (await batch).json as unknown as readonly Json[];
    expect(answers.map(({ result }) => result)).toEqual(['first', 'second']);
    await many.end();
  });
});

describe("jayson's own HTTP client", () => {
  const request = (method: string, params: object): Promise<Json> =>
    new Promise((resolve, reject) => {
      const client = jayson.Client.http({ host: '127.0.0.1', port: fixture.server.port, path: '/rpc' });
      client.request(method, params, (error: unknown, response: Json) =>
        error ? reject(error as Error) : resolve(response),
      );
    });

  test('gets results and errors', async () => {
    expect((await request('Fixture.addLong', { a: 40, b: 2 })).result).toBe(42);
    expect((await request('Fixture.refuse', ['because', 5])).error).toEqual({
      code: -32050,
      message: 'Refused: because',
      data: { exception: 'Refused', why: 'because', number: 5 },
    });
  });

  test('gets the errors of the mesh: it drops the body of a response that has another status than 200', async () => {
    expect((await request('Nobody.nothing', {})).error?.code).toBe(-32601);
    expect((await request('Fixture@9.ping', {})).error?.code).toBe(-32001);
    expect((await request('Fixture.addLong', [1])).error?.code).toBe(-32602);
    expect((await request('Fixture.addLong', [1])).error?.message).toContain('params.b: expected i64');
  });
});
