// The token of the embedded agent.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient } from '../../../services/consul/mod.ts';
import { startConsulAgent, type ConsulAgent } from '../../../services/consul-agent/mod.ts';

const TOKEN = 'b7e23ec29af22b0b4e41da31e868d572';
const BEFORE = '9f86d081884c7d659a2feaa0c55ad015';
let agent: ConsulAgent;
let url = '';
beforeAll(async () => {
  agent = await startConsulAgent({ tokens: () => [TOKEN, BEFORE] });
  url = `http://${agent.address}:${agent.port}`;
});
afterAll(() => agent?.close());

const statusOf = async (path: string, method: string, headers: Record<string, string> = {}): Promise<number> => {
  const response = await fetch(`${url}${path}`, { method, headers, ...(method === 'PUT' ? { body: 'x' } : {}) });
  await response.text();
  return response.status;
};

describe('An agent with a token', () => {
  const requests: readonly (readonly [method: string, path: string])[] = [
    ['GET', '/v1/kv/katamari/?recurse'],
    ['PUT', '/v1/kv/katamari/main/deployments/Evil/1.0.0'],
    ['DELETE', '/v1/kv/katamari?recurse'],
    ['PUT', '/v1/txn'],
    ['PUT', '/v1/session/create'],
    ['GET', '/v1/session/list'],
    ['PUT', '/v1/agent/service/register'],
    ['PUT', '/v1/agent/check/register'],
    ['GET', '/v1/agent/self'],
    ['GET', '/v1/agent/services'],
    ['GET', '/v1/catalog/services'],
    ['GET', '/v1/health/service/katamari-thrift'],
    ['OPTIONS', '/v1/kv/x'],
    ['GET', '/v1/status/leader/../../kv/x'],
    ['GET', '/v1//kv/x'],
    ['GET', '/no/such/path'],
  ];
  for (const [method, path] of requests) {
    test(`refuses ${method} ${path} without it, with a wrong one, and with one in the query`, async () => {
      const separator = path.includes('?') ? '&' : '?';
      expect([
        await statusOf(path, method),
        await statusOf(path, method, { 'x-consul-token': '' }),
        await statusOf(path, method, { 'x-consul-token': `${TOKEN}0` }),
        await statusOf(path, method, { authorization: `Bearer ${TOKEN.slice(1)}` }),
        await statusOf(path, method, { authorization: `Basic ${TOKEN}` }),
        await statusOf(`${path}${separator}token=${TOKEN}`, method),
      ]).toEqual([403, 403, 403, 403, 403, 403]);
    });
  }

  test('accepts it in the header of Consul and as a bearer token', async () => {
    expect(await statusOf('/v1/kv/a', 'PUT', { 'x-consul-token': TOKEN })).toBe(200);
    expect(await statusOf('/v1/kv/a', 'GET', { authorization: `Bearer ${TOKEN}` })).toBe(200);
    expect(await statusOf('/v1/kv/a', 'GET', { 'x-consul-token': BEFORE })).toBe(200);
    const client = consulClient({ address: url, token: TOKEN });
    expect((await client.get('a'))?.value).toBe('x');
    client.close();
  });

  test('answers a health check without it, and nothing else', async () => {
    expect(await statusOf('/v1/status/leader', 'GET')).toBe(200);
    expect(await statusOf('/', 'GET')).toBe(200);
  });

  test('says where the token is to be found', async () => {
    const client = consulClient({ address: url });
    await expect(client.get('a')).rejects.toThrow(/`katamari consul-token` prints, in CONSUL_HTTP_TOKEN/);
    client.close();
  });
});
