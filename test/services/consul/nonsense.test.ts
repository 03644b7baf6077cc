// A server that is not Consul, or a proxy in between, may answer every request with status 200 and any body. Each such
// response is a failed request that says what came; none ends the process, and none is taken for a refusal or a loss.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient, ConsulError } from '../../../services/consul/mod.ts';

const BODIES: readonly (readonly [string, string])[] = [
  ['null', 'application/json'],
  ['{}', 'application/json'],
  ['[null]', 'application/json'],
  ['[{}]', 'application/json'],
  ['[[]]', 'application/json'],
  ['{"Results":[{}]}', 'application/json'],
  ['{"ID":7,"Config":{},"Member":null}', 'application/json'],
  ['"text"', 'application/json'],
  ['17', 'application/json'],
  ['{"x":', 'application/json'],
  ['<html>Sign in</html>', 'text/html'],
  ['', 'application/json'],
];

/** Every request of the client. Responses that are valid for one of them are listed with it. */
const REQUESTS: readonly (readonly [string, (client: ConsulClient) => Promise<unknown>, readonly string[]])[] = [
  ['get', (client) => client.get('a'), []],
  ['list', (client) => client.list('a/'), []],
  ['put', (client) => client.put('a', 'x', { cas: 1 }), []],
  ['delete', (client) => client.delete('a'), []],
  ['transact', (client) => client.transact([{ verb: 'cas', key: 'a', value: 'x', index: 1 }]), []],
  [
    'createSession',
    (client) => client.createSession({ name: 'a', ttlMs: 10_000, lockDelayMs: 0, behavior: 'delete', checks: [] }),
    [],
  ],
  ['renewSession', (client) => client.renewSession('a'), []],
  ['hasSession', (client) => client.hasSession('a'), ['null']],
  ['destroySession', (client) => client.destroySession('a'), []],
  [
    'registerService',
    (client) =>
      client.registerService({
        id: 'a',
        name: 'a',
        host: '127.0.0.1',
        port: 1,
        tags: [],
        meta: {},
        check: { kind: 'ttl', ttlMs: 10_000 },
        deregisterAfterMs: 60_000,
      }),
    [''],
  ],
  ['deregisterService', (client) => client.deregisterService('a'), ['']],
  ['serviceIds', (client) => client.serviceIds(), ['{}']],
  ['passCheck', (client) => client.passCheck('a'), ['']],
  ['syncCheck', (client) => client.syncCheck('a'), ['{}']],
  ['leader', (client) => client.leader(), []],
  ['agent', (client) => client.agent(), []],
  ['sessions', (client) => client.sessions(), ['null']],
];

let server: Server;
let client: ConsulClient;
let body: readonly [string, string] = ['', ''];
beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { 'content-type': body[1], 'x-consul-index': '7' }).end(body[0]);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = consulClient({ address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
});
afterAll(async () => {
  client.close();
  await new Promise((resolve) => server.close(resolve));
});

describe.each(REQUESTS)('%s()', (_, send, valid) => {
  test.each(BODIES)('with %s of %s fails, and says what came', async (text, type) => {
    body = [text, type];
    const end = await send(client).then(
      (value) => ({ value }),
      (error: unknown) => error,
    );
    if (valid.includes(text)) {
      expect(end).toHaveProperty('value');
      return;
    }
    expect(end).toBeInstanceOf(ConsulError);
    expect((end as ConsulError).message).toMatch(/^Cannot .* at Consul 127\.0\.0\.1:\d+: ./);
    expect((end as ConsulError).isCancelled).toBe(false);
  });
});

test('a missing session is no nonsense: an empty list', async () => {
  body = ['[]', 'application/json'];
  expect(await client.hasSession('a')).toEqual({ index: 7, lives: false });
});
