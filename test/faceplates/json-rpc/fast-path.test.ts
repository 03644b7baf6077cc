// A request has the same answer on every path: as an ordinary POST or through `node:http` and Hono, and directly to
// the mesh or through jayson.

import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exchangeBytes } from '../../kit/wire/http-bytes.ts';
import { startFixture, type JsonRpcFixture } from './fixture.ts';

let fixture: JsonRpcFixture;
beforeAll(async () => {
  fixture = await startFixture({ limits: { batchMax: 5, idleMs: 1_500, frameBytesMax: 20_000 } });
});
afterAll(() => fixture.end());

/** Requests as they occur in a body; each is also sent in a batch by itself. */
const REQUESTS: readonly string[] = [
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","id":"","method":"Fixture.ping","params":{}}',
  '{"jsonrpc":"2.0","id":-0,"method":"Fixture.ping","params":[]}',
  '{"jsonrpc":"2.0","id":1.50,"method":"Fixture.half","params":[3]}',
  String.raw`{"jsonrpc":"2.0","id":"ä\"\n\ud83d\u0000","method":"Fixture.addLong","params":[1,2]}`,
  '{"jsonrpc":"2.0","id":null,"method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","id":1e400,"method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","id":true,"method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","id":12345678901234567890,"method":"Fixture.addLong","params":{"a":9007199254740993,"b":0}}',
  '{"jsonrpc":"2.0","method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","method":"Fixture.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Nobody.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture@7.ping"}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture@^1.0.ping"}',
  '{"jsonrpc":"2.0","id":1,"method":"rpc.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"__proto__.constructor"}',
  '{"jsonrpc":"2.0","id":1,"method":""}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":{"a":1}}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":{"a":1,"b":"x"}}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":[1,2,3]}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":null}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.addLong","params":7}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.refuse","params":["because",5]}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.crash"}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.tell","params":["x"]}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.context"}',
  '{"jsonrpc":"2.0","id":1,"method":"Fixture.echo","params":[{}],"more":{"a":[1,{}]}}',
  '{"jsonrpc":"1.0","id":1,"method":"Fixture.ping"}',
  '{"id":1,"method":"Fixture.ping"}',
  '{"jsonrpc":"2.0","id":1}',
  '{"__proto__":{"id":7},"jsonrpc":"2.0","method":"Fixture.ping"}',
  '1',
  '"text"',
  '{}',
];
const BODIES: readonly string[] = [
  ...REQUESTS,
  '',
  '{',
  '[]',
  '\uFEFF{"jsonrpc":"2.0","id":1,"method":"Fixture.ping"}',
  `[${Array.from({ length: 6 }, () => REQUESTS[0]).join(',')}]`,
  `{"jsonrpc":"2.0","id":1,"method":"Fixture.ping","params":${'['.repeat(70)}${']'.repeat(70)}}`,
  `{"jsonrpc":"2.0","id":1,"method":"Fixture.ping","x":"${'ä'.repeat(9_000)}"}`,
  'x'.repeat(20_001),
];
const HEADERS: readonly string[] = [
  '',
  'katamari-timeout-ms: 5000\r\nkatamari-key: k\r\nkatamari-tags: a, b\r\n',
  'katamari-timeout-ms: soon\r\n',
  'katamari-version: ^1\r\n',
  'katamari-version: 9\r\n',
  'katamari-roles: other\r\n',
  'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nauthorization: Bearer x\r\n',
];

const requestOf = (body: string, headers = '', path = '/rpc'): Buffer => {
  const bytes = Buffer.from(body);
  return Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}Content-Length: ${bytes.length}\r\n\r\n`),
    bytes,
  ]);
};
/** A request that switches its connection to `node:http`, and its answer. */
const ELSEWHERE = Buffer.from('OPTIONS /rpc HTTP/1.1\r\nHost: localhost\r\n\r\n');

async function sameBothWays(request: Buffer): Promise<void> {
  const [inFront, behind, before] = await Promise.all([
    exchangeBytes(fixture.server.port, [request]),
    exchangeBytes(fixture.server.port, [ELSEWHERE, request]),
    exchangeBytes(fixture.server.port, [ELSEWHERE]),
  ]);
  expect(behind.startsWith(before)).toBe(true);
  expect(`${request.toString()}\n${inFront}`).toBe(`${request.toString()}\n${behind.slice(before.length)}`);
}

test('An ordinary POST has the same answer as through node:http, byte for byte', async () => {
  await Promise.all(BODIES.map((body) => sameBothWays(requestOf(body))));
  const [ping = '', , , , add = ''] = REQUESTS;
  await Promise.all(HEADERS.flatMap((headers) => [ping, add].map((body) => sameBothWays(requestOf(body, headers)))));
  const own = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  const paths = ['/rpc/Fixture', '/rpc/Fixture@1.0.0', '/rpc/Fixture@2', '/rpc/', '/rpc/a/b', '/rpc2', '/'];
  await Promise.all(paths.flatMap((path) => [own, ping].map((body) => sameBothWays(requestOf(body, '', path)))));
  const { accepted, inFlight } = fixture.mesh.callStats.sums();
  expect([accepted > 0, inFlight]).toEqual([true, 0]);
});

/** The answer to a body, as text; '' when there is none. */
const answerTo = async (body: string): Promise<string> =>
  (await fixture.post(body)).text.replace(/"timeLeftMs":"\d+"/, '');

test('A single request is answered like one in a batch, which goes through jayson', async () => {
  for (const request of REQUESTS) {
    const single = await answerTo(request);
    expect(await answerTo(`[${request}]`)).toBe(single === '' ? '' : `[${single}]`);
  }
});

test('A random single request is answered like one in a batch', async () => {
  const anything = fc.json({ maxDepth: 2 });
  const member = (usual: readonly string[]): fc.Arbitrary<string | undefined> =>
    fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...usual) },
      { weight: 1, arbitrary: fc.constant(undefined) },
      anything,
    );
  const request = fc
    .record({
      jsonrpc: member(['"2.0"']),
      id: member(['1', '"a"', '-1.5', 'null']),
      method: member(['"Fixture.ping"', '"Fixture.addLong"', '"Fixture.refuse"', '"rpc.x"', '"Fixture@1.ping"']),
      params: member(['{}', '[]', '[1,2]', '{"a":1,"b":2}', '["why",3]']),
    })
    .map((members) => {
      const parts = Object.entries(members).flatMap(([name, text]) =>
        text === undefined ? [] : [`"${name}":${text}`],
      );
      return `{${parts.join(',')}}`;
    });
  await fc.assert(
    fc.asyncProperty(request, async (text) => {
      const single = await answerTo(text);
      expect(await answerTo(`[${text}]`)).toBe(single === '' ? '' : `[${single}]`);
    }),
    { numRuns: 300 },
  );
});
