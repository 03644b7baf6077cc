// The client's options and errors, its conditional writes on the embedded agent, and service announcement on both
// kinds of Consul.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, freePorts, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { Backoff, runtimeName } from '../../../core/mod.ts';
import {
  announceService,
  consulClient,
  consulOptionsOf,
  ConsulError,
  type ConsulClient,
} from '../../../services/consul/mod.ts';
import { until } from '../../kit/tools/wait.ts';

describe('consulOptionsOf()', () => {
  test('reads the environment variables of Consul', () => {
    const { options, notes } = consulOptionsOf({
      CONSUL_HTTP_ADDR: 'https://consul.example:8501',
      CONSUL_HTTP_TOKEN: 'secret',
      CONSUL_HTTP_SSL: 'true',
      CONSUL_HTTP_SSL_VERIFY: '0',
      CONSUL_CACERT: '/ca.pem',
      CONSUL_CLIENT_CERT: '/cert.pem',
      CONSUL_CLIENT_KEY: '/key.pem',
      CONSUL_TLS_SERVER_NAME: 'server.dc1.consul',
      CONSUL_HTTP_AUTH: 'me:pw',
    });
    expect(options).toEqual({
      address: 'https://consul.example:8501',
      token: 'secret',
      isTls: true,
      verifiesTls: false,
      caFile: '/ca.pem',
      certFile: '/cert.pem',
      keyFile: '/key.pem',
      serverName: 'server.dc1.consul',
      basicAuth: 'me:pw',
    });
    expect(notes).toEqual([]);
  });

  test('takes the token from a file, and ignores empty variables', () => {
    const folder = mkdtempSync(join(tmpdir(), 'katamari-token-'));
    writeFileSync(join(folder, 'token'), 'from-file\n');
    expect(consulOptionsOf({ CONSUL_HTTP_TOKEN_FILE: join(folder, 'token'), CONSUL_HTTP_ADDR: '' }).options).toEqual({
      token: 'from-file',
    });
    rmSync(folder, { recursive: true });
    expect(() => consulOptionsOf({ CONSUL_HTTP_TOKEN_FILE: '/no/such/file' })).toThrow(
      'Cannot read CONSUL_HTTP_TOKEN_FILE from /no/such/file',
    );
  });

  test('reports options that it ignores, and refuses options that it cannot parse', () => {
    expect(consulOptionsOf({ CONSUL_NAMESPACE: 'team', CONSUL_CAPATH: '/certs' }).notes.join('\n')).toMatch(
      /CONSUL_NAMESPACE[^]*CONSUL_CAPATH/,
    );
    expect(() => consulOptionsOf({ CONSUL_HTTP_SSL: 'maybe' })).toThrow(
      'CONSUL_HTTP_SSL="maybe": expected true or false',
    );
  });
});

describe('consulClient()', () => {
  for (const [address, shown] of [
    ['127.0.0.1:8500', '127.0.0.1:8500'],
    ['consul.example', 'consul.example:8500'],
    ['http://consul.example', 'consul.example:80'],
    ['https://consul.example', 'consul.example:443'],
    ['unix:///run/consul.sock', 'unix:///run/consul.sock'],
  ] as const) {
    test(`connects to ${shown} for ${address}`, () => expect(consulClient({ address }).address).toBe(shown));
  }
  for (const address of ['', 'http://', 'unix://x', 'host:port', 'http://h/path', 'ftp://h']) {
    test(`refuses ${JSON.stringify(address)} as an address`, () => {
      expect(() => consulClient({ address })).toThrow(/expected HOST:PORT/);
    });
  }

  test('names missing files', () => {
    expect(() => consulClient({ caFile: '/no/ca.pem' })).toThrow('Cannot read the CA certificate from /no/ca.pem');
  });

  test('sends the token and the datacenter with every request', async () => {
    const seen: IncomingMessage[] = [];
    const server = createHttpServer((request, response) => {
      seen.push(request);
      response.writeHead(403, { 'Content-Type': 'text/plain; charset=utf-8' }).end('Permission denied');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = consulClient({
      address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
      token: 'secret',
      datacenter: 'moon',
      basicAuth: 'me:pw',
    });
    await expect(client.get('k')).rejects.toMatchObject({
      status: 403,
      message: expect.stringMatching(/Permission denied.*CONSUL_HTTP_TOKEN/) as string,
    });
    expect(seen[0]?.headers).toMatchObject({ 'x-consul-token': 'secret', authorization: `Basic ${btoa('me:pw')}` });
    expect(seen[0]?.url).toContain('dc=moon');
    expect(client.stats()).toEqual({ requests: 1, errors: 1 });
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  test('sends a read again when an idle connection closes under it, and a write never by itself', async () => {
    const seen: string[] = [];
    let isClosing = false;
    const server = createHttpServer((request, response) => {
      seen.push(request.method ?? '');
      // As a server whose idle timeout passes while the request is on its way.
      if (isClosing) request.socket.destroy();
      else response.writeHead(404, { 'x-consul-index': '1' }).end();
      isClosing = false;
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = consulClient({ address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
    for (const read of [() => client.get('k'), async () => (await client.list('k')).entries[0]]) {
      expect(await read()).toBeUndefined();
      isClosing = true;
      expect(await read()).toBeUndefined();
    }
    expect(seen.splice(0)).toEqual(Array.from({ length: 6 }, () => 'GET'));
    isClosing = true;
    await expect(client.put('k', 'v')).rejects.toThrow('Cannot write k at Consul');
    // Deno itself sends a request again when a kept connection has closed.
    expect(seen).toEqual(runtimeName() === 'deno' ? ['PUT', 'PUT'] : ['PUT']);
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  test('names the address when nothing listens there', async () => {
    const [port] = await freePorts(1);
    const client = consulClient({ address: `127.0.0.1:${port}` });
    const failure = await client.leader().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ConsulError);
    expect(failure).toMatchObject({
      status: 0,
      isCancelled: false,
      message: expect.stringMatching(new RegExp(`at Consul 127.0.0.1:${port}: .*Is Consul running there`)) as string,
    });
  });

  test('keeps its token out of its errors and their causes', async () => {
    const token = 'b7e23ec29af22b0b4e41da31e868d572';
    const consul = await startConsul('embedded', { tokens: () => [`not ${token}`] });
    const client = consulClient({ address: consul.address, token });
    const failure = await client.get('x').catch((error: unknown) => error);
    expect(failure).toMatchObject({ status: 403, trouble: 'denied' });
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain(token);
    client.close();
    await consul.close();
  });

  test('aborts a request in flight with its signal, and all requests when it is closed', async () => {
    const consul = await startConsul('embedded');
    const client = consulClient({ address: consul.address });
    const { index } = await client.list('x/');
    const end = new AbortController();
    const one = client.list('x/', { index, waitMs: 60_000, signal: end.signal }).catch((error: unknown) => error);
    const two = client.list('x/', { index, waitMs: 60_000 }).catch((error: unknown) => error);
    end.abort();
    expect(await one).toMatchObject({ isCancelled: true });
    client.close();
    expect(await two).toMatchObject({ isCancelled: true });
    await expect(client.get('x', AbortSignal.abort())).rejects.toMatchObject({ isCancelled: true });
    await consul.close();
  });
});

for (const kind of CONSUL_KINDS) {
  describe(`ConsulClient on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
    });
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });

    test('writes and deletes conditionally, and returns whether it did', async () => {
      expect(await client.get('c/a')).toBe(undefined);
      expect(await client.put('c/a', 'x', { cas: 0 })).toBe(true);
      expect(await client.put('c/a', 'y', { cas: 0 })).toBe(false);
      const entry = (await client.get('c/a'))!;
      expect(entry).toMatchObject({ key: 'c/a', value: 'x', flags: 0, lockIndex: 0, session: '' });
      expect(await client.put('c/a', '', { cas: entry.modifyIndex })).toBe(true);
      expect(await client.get('c/a')).toMatchObject({ value: '' });
      expect(await client.delete('c/a', { cas: entry.modifyIndex })).toBe(false);
      expect(await client.delete('c/', { isTree: true })).toBe(true);
      expect(await client.list('c/')).toMatchObject({ entries: [] });
      expect(await client.leader()).toMatch(/:\d+$/);
    });

    test('syncCheck() copies a passing check from the agent to the catalog, and no other', async () => {
      const check = { kind: 'ttl', ttlMs: 60_000 } as const;
      const request = {
        id: 'carry-1',
        name: 'carry',
        host: '127.0.0.1',
        port: 5,
        tags: ['t'],
        meta: {},
        check,
        deregisterAfterMs: 60_000,
      };
      await client.registerService(request);
      const inCatalog = async (): Promise<unknown[]> =>
        (await client.api.health.service({ service: 'carry', passing: true })) as unknown[];
      await until('it to be passing', async () => (await inCatalog()).length === 1);
      // The servers forget it without the agent's knowledge.
      await client.api.catalog.deregister({ node: 'katamari', serviceid: 'carry-1' } as Parameters<
        typeof client.api.catalog.deregister
      >[0] &
        object);
      await until('it to be forgotten', async () => (await inCatalog()).length === 0);
      expect(await client.syncCheck('service:carry-1')).toBe(true);
      expect(await inCatalog()).toMatchObject([{ Service: { ID: 'carry-1', Port: 5, Tags: ['t'] } }]);
      await client.api.agent.check.fail('service:carry-1');
      expect(await client.syncCheck('service:carry-1')).toBe(false);
      expect(await client.syncCheck('service:none')).toBe(false);
      await client.deregisterService('carry-1');
    });

    test('announceService() registers a service with its check, and again when the agent has lost it', async () => {
      const errors: string[] = [];
      const [, port] = consul.address.split(':');
      const check = {
        kind: 'http',
        url: `http://${consul.address}/v1/status/leader`,
        intervalMs: 1_000,
        timeoutMs: 500,
      } as const;
      const service = {
        id: 'katamari-stats:f1',
        name: 'katamari-stats',
        host: '127.0.0.1',
        port: Number(port),
        tags: ['stats'],
        meta: { mesh: 'm' },
        check,
        deregisterAfterMs: 60_000,
      };
      // Fast enough to observe a second check.
      const clock = {
        nowMs: () => performance.now(),
        after: (delayMs: number, act: () => void) => {
          const timer = setTimeout(act, delayMs / 100);
          return () => clearTimeout(timer);
        },
      };
      const announcement = announceService(client, service, { clock, onError: (error) => errors.push(error.message) });
      await announcement.ready;
      const inCatalog = async (): Promise<boolean> => {
        const found = (await client.api.health.service({ service: 'katamari-stats', passing: true })) as {
          Service: { Port: number; Tags: string[] };
        }[];
        return found.length === 1 && found[0]?.Service.Port === Number(port) && found[0].Service.Tags[0] === 'stats';
      };
      await until('it to be passing', inCatalog);
      await client.deregisterService(service.id);
      await until('it to be back', inCatalog);
      // The servers forget it without the agent's knowledge, as can happen after an outage of Consul.
      type Gone = Parameters<typeof client.api.catalog.deregister>[0] & object;
      await client.api.catalog.deregister({ node: 'katamari', serviceid: service.id } as Gone);
      await until('it to be forgotten', async () => !(await inCatalog()));
      announcement.verify();
      await until('it to be in the catalog again', inCatalog);
      await announcement.withdraw();
      expect(await client.serviceIds()).not.toContain(service.id);
      expect(errors).toEqual([]);
    });
  });
}

test('Backoff.next() doubles up to its limit, with up to half subtracted, and starts over after a success', () => {
  const steady = new Backoff({ firstMs: 100, maxMs: 1_000, random: () => 0 });
  expect([1, 2, 3, 4, 5, 6].map(() => steady.next())).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  steady.reset();
  expect(steady.next()).toBe(100);
  const jittered = new Backoff({ firstMs: 100, maxMs: 1_000, random: () => 0.999 });
  for (let at = 0; at < 50; at++) expect(jittered.next()).toBeGreaterThanOrEqual(50);
});
