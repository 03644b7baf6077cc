// One answer whichever way a request goes: as an ordinary POST or through `node:http` and Hono, straight to the mesh
// or through jayson.

import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exchangeBytes } from '../../kit/wire/http-bytes.ts';
import { startParlour, type Parlour } from './fixture.ts';

let parlour: Parlour;
beforeAll(async () => {
  parlour = await startParlour({ limits: { batchMax: 5, idleMs: 1_500, frameBytesMax: 20_000 } });
});
afterAll(() => parlour.end());

/** Requests as they stand in a body; each is also sent in a batch by itself. */
const REQUESTS: readonly string[] = [
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","id":"","method":"Parlour.ping","params":{}}',
  '{"jsonrpc":"2.0","id":-0,"method":"Parlour.ping","params":[]}',
  '{"jsonrpc":"2.0","id":1.50,"method":"Parlour.half","params":[3]}',
  String.raw`{"jsonrpc":"2.0","id":"ä\"\n\ud83d\u0000","method":"Parlour.addLong","params":[1,2]}`,
  '{"jsonrpc":"2.0","id":null,"method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","id":1e400,"method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","id":true,"method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","id":12345678901234567890,"method":"Parlour.addLong","params":{"a":9007199254740993,"b":0}}',
  '{"jsonrpc":"2.0","method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","method":"Parlour.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Nobody.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour@7.ping"}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour@^1.0.ping"}',
  '{"jsonrpc":"2.0","id":1,"method":"rpc.nothing"}',
  '{"jsonrpc":"2.0","id":1,"method":"__proto__.constructor"}',
  '{"jsonrpc":"2.0","id":1,"method":""}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":{"a":1}}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":{"a":1,"b":"x"}}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":[1,2,3]}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":null}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.addLong","params":7}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.refuse","params":["because",5]}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.crash"}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.tell","params":["x"]}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.context"}',
  '{"jsonrpc":"2.0","id":1,"method":"Parlour.echo","params":[{}],"more":{"a":[1,{}]}}',
  '{"jsonrpc":"1.0","id":1,"method":"Parlour.ping"}',
  '{"id":1,"method":"Parlour.ping"}',
  '{"jsonrpc":"2.0","id":1}',
  '{"__proto__":{"id":7},"jsonrpc":"2.0","method":"Parlour.ping"}',
  '1',
  '"text"',
  '{}',
];
const BODIES: readonly string[] = [
  ...REQUESTS,
  '',
  '{',
  '[]',
  '\uFEFF{"jsonrpc":"2.0","id":1,"method":"Parlour.ping"}',
  `[${Array.from({ length: 6 }, () => REQUESTS[0]).join(',')}]`,
  `{"jsonrpc":"2.0","id":1,"method":"Parlour.ping","params":${'['.repeat(70)}${']'.repeat(70)}}`,
  `{"jsonrpc":"2.0","id":1,"method":"Parlour.ping","x":"${'ä'.repeat(9_000)}"}`,
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
/** What makes a connection one of `node:http`, and its answer. */
const ELSEWHERE = Buffer.from('OPTIONS /rpc HTTP/1.1\r\nHost: localhost\r\n\r\n');

async function sameBothWays(request: Buffer): Promise<void> {
  const [inFront, behind, before] = await Promise.all([
    exchangeBytes(parlour.server.port, [request]),
    exchangeBytes(parlour.server.port, [ELSEWHERE, request]),
    exchangeBytes(parlour.server.port, [ELSEWHERE]),
  ]);
  expect(behind.startsWith(before)).toBe(true);
  expect(`${request.toString()}\n${inFront}`).toBe(`${request.toString()}\n${behind.slice(before.length)}`);
}

test('An ordinary POST is answered as one that came through node:http, byte for byte', async () => {
  await Promise.all(BODIES.map((body) => sameBothWays(requestOf(body))));
  const [ping = '', , , , add = ''] = REQUESTS;
  await Promise.all(HEADERS.flatMap((headers) => [ping, add].map((body) => sameBothWays(requestOf(body, headers)))));
  const own = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  const paths = ['/rpc/Parlour', '/rpc/Parlour@1.0.0', '/rpc/Parlour@2', '/rpc/', '/rpc/a/b', '/rpc2', '/'];
  await Promise.all(paths.flatMap((path) => [own, ping].map((body) => sameBothWays(requestOf(body, '', path)))));
  const { accepted, inFlight } = parlour.door.book.sums();
  expect([accepted > 0, inFlight]).toEqual([true, 0]);
}, 60_000);

/** The text of an answer to a body; '' when there is none. */
const answerTo = async (body: string): Promise<string> =>
  (await parlour.post(body)).text.replace(/"timeLeftMs":"\d+"/, '');

test('A request by itself is answered as in a batch, which jayson has a part in', async () => {
  for (const request of REQUESTS) {
    const single = await answerTo(request);
    expect(await answerTo(`[${request}]`)).toBe(single === '' ? '' : `[${single}]`);
  }
});

test('A request made of anything is answered by itself as in a batch', async () => {
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
      method: member(['"Parlour.ping"', '"Parlour.addLong"', '"Parlour.refuse"', '"rpc.x"', '"Parlour@1.ping"']),
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
