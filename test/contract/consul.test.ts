// One contract test for everything the mesh uses of Consul. The embedded agent and the real server both run it,
// through the `consul` package.
//
// Intended differences of the embedded agent, with the reason:
// - Reads with ?filter, alias, gRPC and script checks, proxies, and transactions on nodes and services are refused:
//   nothing here uses them.
// - A query for an index that the agent has not reached yet is answered at once, not after the wait: such an index
//   belongs to data that was lost.
// - The text of 413 for a value that is too large omits the link to the manual.
// - After a restart, checks keep their last status. The real agent starts them as critical, which ends the sessions
//   that depend on them. (Not tested here, because this test covers the store;
//   test/services/consul/session.test.ts restarts both.)

import Consul from 'consul';
import { EventEmitter } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../kit/consul/consul.ts';
import { until } from '../kit/tools/wait.ts';

/** The package's methods without its types, which name only some of the options. (It resolves `false` as undefined.) */
type Method = (options: unknown) => Promise<unknown>;
interface Api {
  readonly kv: { get: Method; set: Method; keys: Method; del: Method };
  readonly session: { create: Method; destroy: Method; info: Method; list: Method; node: Method; renew: Method };
  readonly agent: {
    self: Method;
    members: Method;
    maintenance: Method;
    check: { list: Method; register: Method; deregister: Method; pass: Method; warn: Method; fail: Method };
    service: { list: Method; register: Method; deregister: Method; maintenance: Method };
  };
  readonly health: { node: Method; service: Method; checks: Method; state: Method };
  readonly catalog: {
    services: Method;
    nodes: Method;
    datacenters: Method;
    service: { nodes: Method };
    node: { services: Method };
    register: Method;
    deregister: Method;
  };
  readonly transaction: { create: Method };
  readonly status: { leader: Method; peers: Method };
}
interface Entry {
  readonly Key: string;
  readonly Value: string | null;
  readonly Flags: number;
  readonly LockIndex: number;
  readonly Session?: string;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}
type Watched<T> = { readonly index: number; readonly status: number; readonly body: T };

for (const kind of CONSUL_KINDS) {
  describe(`${kind} Consul`, () => {
    let consul: TestConsul;
    let client: Consul;
    let api: Api;
    let prefixes = 0;

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = new Consul({ host: consul.host, port: consul.port });
      api = client as unknown as Api;
    });
    afterAll(async () => {
      client?.destroy();
      await consul?.close();
    });

    /** A separate key prefix for one test. */
    const freePrefix = (): string => `contract/${++prefixes}/`;
    /** A request through the package that also returns the index and the status. */
    const watched = async <T>(method: Method, of: object, options: object): Promise<Watched<T>> => {
      const ctx = Object.assign(new EventEmitter(), { includeResponse: true });
      const [response, body] = (await method.call(of, { ...options, ctx, timeout: 15_000 })) as [
        { statusCode: number; headers: Record<string, string> },
        T,
      ];
      return { index: Number(response.headers['x-consul-index']), status: response.statusCode, body };
    };
    const readTree = (key: string, options: object = {}): Promise<Watched<Entry[] | undefined>> =>
      watched(api.kv.get, api.kv, { key, recurse: true, ...options });
    const read = (key: string, options: object = {}): Promise<Watched<Entry | undefined>> =>
      watched(api.kv.get, api.kv, { key, ...options });
    const newSession = async (options: object = {}): Promise<string> =>
      ((await api.session.create({ lockdelay: '0s', ...options })) as { ID: string }).ID;
    const raw = async (method: string, path: string, body?: string): Promise<[number, string]> => {
      const response = await fetch(`http://${consul.address}/v1${path}`, {
        method,
        redirect: 'manual',
        ...(body === undefined ? {} : { body }),
      });
      return [response.status, await response.text()];
    };
    const catalogHas = (id: string, status: string): Promise<unknown> =>
      until(`check ${id} to be ${status}`, async () => {
        const checks = (await api.health.state({ state: 'any' })) as { CheckID: string; Status: string }[];
        return checks.some((check) => check.CheckID === id && check.Status === status);
      });

    describe('keys and values', () => {
      test('a key can be written, read, listed and deleted', async () => {
        const at = freePrefix();
        expect(await api.kv.set({ key: `${at}a`, value: 'täst', flags: 42 })).toBe(true);
        expect(await api.kv.set({ key: `${at}b/c`, value: '' })).toBe(true);
        const { body } = await read(`${at}a`);
        expect(body).toMatchObject({ Key: `${at}a`, Value: 'täst', Flags: 42, LockIndex: 0 });
        expect(body?.CreateIndex).toBe(body?.ModifyIndex);
        expect(body).not.toHaveProperty('Session');
        expect((await readTree(at)).body?.map((entry) => [entry.Key, entry.Value])).toEqual([
          [`${at}a`, 'täst'],
          [`${at}b/c`, null],
        ]);
        expect(await api.kv.keys({ key: at })).toEqual([`${at}a`, `${at}b/c`]);
        expect(await api.kv.keys({ key: at, separator: '/' })).toEqual([`${at}a`, `${at}b/`]);
        expect(await api.kv.del(`${at}a`)).toBe(true);
        expect(await api.kv.get(`${at}a`)).toBe(undefined);
        expect(await api.kv.del({ key: at, recurse: true })).toBe(true);
        expect(await api.kv.get({ key: at, recurse: true })).toBe(undefined);
      });

      test('bytes are unchanged, also with ?raw', async () => {
        const key = `${freePrefix()}bytes`;
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
        await api.kv.set({ key, value: bytes });
        expect(((await api.kv.get({ key, buffer: true })) as { Value: Buffer }).Value.equals(bytes)).toBe(true);
        expect(((await api.kv.get({ key, raw: true })) as Buffer).equals(bytes)).toBe(true);
      });

      test('cas writes only when the key has not changed', async () => {
        const key = `${freePrefix()}cas`;
        expect(await api.kv.set({ key, value: '0', cas: '5' })).not.toBe(true);
        expect(await api.kv.set({ key, value: '1', cas: '0' })).toBe(true);
        expect(await api.kv.set({ key, value: '2', cas: '0' })).not.toBe(true);
        const { ModifyIndex } = (await api.kv.get(key)) as Entry;
        expect(await api.kv.set({ key, value: '3', cas: String(ModifyIndex) })).toBe(true);
        expect(await api.kv.set({ key, value: '4', cas: String(ModifyIndex) })).not.toBe(true);
        expect(((await api.kv.get(key)) as Entry).Value).toBe('3');
        expect(await api.kv.del({ key, cas: String(ModifyIndex) })).not.toBe(true);
        expect(await api.kv.del({ key, cas: String(((await api.kv.get(key)) as Entry).ModifyIndex) })).toBe(true);
        expect(await api.kv.del({ key, cas: '7' })).toBe(true);
      });

      test('writing the same value again does not change the index', async () => {
        const key = `${freePrefix()}same`;
        await api.kv.set({ key, value: 'x' });
        const before = (await api.kv.get(key)) as Entry;
        await api.kv.set({ key, value: 'x' });
        expect(await api.kv.get(key)).toEqual(before);
        await api.kv.set({ key, value: 'y' });
        const after = (await api.kv.get(key)) as Entry;
        expect(after.ModifyIndex).toBeGreaterThan(before.ModifyIndex);
        expect(after.CreateIndex).toBe(before.CreateIndex);
      });

      test('keys with spaces, percent signs, slashes and non-ASCII letters are distinct', async () => {
        const at = freePrefix();
        const keys = ['a b', 'a%20b', 'a+b', 'ä/ö', 'q?x=1', 'h#1', 'c&d'].map((name) => at + name);
        for (const key of keys) await api.kv.set({ key, value: key });
        for (const key of keys) expect(((await api.kv.get(key)) as Entry).Value).toBe(key);
        expect(((await api.kv.keys({ key: at })) as string[]).sort()).toEqual([...keys].sort());
      });

      test('a value may have 512 KiB and no more', async () => {
        const key = `${freePrefix()}big`;
        expect(await api.kv.set({ key, value: Buffer.alloc(512 * 1024, 'x') })).toBe(true);
        await expect(api.kv.set({ key, value: Buffer.alloc(512 * 1024 + 1, 'x') })).rejects.toMatchObject({
          statusCode: 413,
        });
      });
    });

    describe('blocking queries', () => {
      test('a watch on a key wakes when it is written, changed and deleted', async () => {
        const key = `${freePrefix()}watched`;
        let { index } = await read(key);
        expect(index).toBeGreaterThan(0);
        for (const change of [
          () => api.kv.set({ key, value: '1' }),
          () => api.kv.set({ key, value: '2' }),
          () => api.kv.del(key),
          () => api.kv.set({ key, value: '3' }),
        ]) {
          const waiting = read(key, { index: String(index), wait: '10s' });
          await change();
          const seen = await waiting;
          expect(seen.index).toBeGreaterThan(index);
          index = seen.index;
        }
      });

      test('a watch on a prefix wakes on a change or delete under it, and not on its neighbors', async () => {
        const at = freePrefix();
        const near = freePrefix();
        await api.kv.set({ key: `${at}a`, value: '1' });
        await api.kv.set({ key: `${at}b`, value: '1' });
        const first = await readTree(at);
        await api.kv.set({ key: `${near}a`, value: '1' });
        const same = await readTree(at, { index: String(first.index), wait: '50ms' });
        expect(same.index).toBe(first.index);

        const deleted = readTree(at, { index: String(first.index), wait: '10s' });
        await api.kv.del(`${at}b`);
        expect((await deleted).body?.map((entry) => entry.Key)).toEqual([`${at}a`]);
        expect((await deleted).index).toBeGreaterThan(first.index);

        const emptied = readTree(at, { index: String((await deleted).index), wait: '10s' });
        await api.kv.del({ key: at, recurse: true });
        expect((await emptied).status).toBe(404);
        expect((await emptied).index).toBeGreaterThan((await deleted).index);

        const refilled = readTree(at, { index: String((await emptied).index), wait: '10s' });
        await api.kv.set({ key: `${at}c`, value: '1' });
        expect((await refilled).body).toHaveLength(1);
      });

      test('an index that is behind is answered at once, and one that is ahead with the true index after the wait at the latest', async () => {
        const key = `${freePrefix()}ahead`;
        await api.kv.set({ key, value: '1' });
        const { index } = await read(key);
        expect((await read(key, { index: String(index - 1), wait: '10s' })).index).toBe(index);
        expect((await read(key, { index: String(index + 100_000), wait: '50ms' })).index).toBe(index);
      });

      test('a missing key has an index to wait on that only grows', async () => {
        const at = freePrefix();
        const first = await read(`${at}none`);
        await api.kv.set({ key: `${at}other`, value: '1' });
        await api.kv.del(`${at}other`);
        expect((await read(`${at}none`)).index).toBeGreaterThanOrEqual(first.index);
      });
    });

    describe('sessions', () => {
      test('a session is created with its defaults, found, listed and destroyed', async () => {
        const { ID: id } = (await api.session.create({ name: 'contract' })) as { ID: string };
        const found = (await api.session.info(id)) as Record<string, unknown>;
        expect(found).toMatchObject({
          ID: id,
          Name: 'contract',
          Node: 'katamari',
          LockDelay: 15_000_000_000,
          Behavior: 'release',
          TTL: '',
          NodeChecks: ['serfHealth'],
          ServiceChecks: null,
        });
        expect(await api.session.list({})).toContainEqual(found);
        expect(await api.session.node('katamari')).toContainEqual(found);
        expect(await api.session.node('nobody')).toEqual([]);
        await api.session.destroy(id);
        expect(await api.session.info(id)).toBe(undefined);
        await api.session.destroy(id);
      });

      test('a session has the requested options', async () => {
        const id = await newSession({ name: 'x', ttl: '20s', behavior: 'delete', lockdelay: '5s' });
        expect(await api.session.info(id)).toMatchObject({ Behavior: 'delete', TTL: '20s', LockDelay: 5_000_000_000 });
        expect(await api.session.renew(id)).toMatchObject([{ ID: id, TTL: '20s' }]);
        await api.session.destroy(id);
        await expect(api.session.renew(id)).rejects.toMatchObject({ statusCode: 404 });
      });

      test('a lock has one holder, counts its holders, and is released only by its session', async () => {
        const key = `${freePrefix()}lock`;
        const [one, two] = [await newSession(), await newSession()];
        expect(await api.kv.set({ key, value: '1', acquire: one })).toBe(true);
        expect(await api.kv.set({ key, value: '2', acquire: two })).not.toBe(true);
        expect(await api.kv.get(key)).toMatchObject({ Value: '1', Session: one, LockIndex: 1 });
        expect(await api.kv.set({ key, value: '3', acquire: one })).toBe(true);
        expect(await api.kv.get(key)).toMatchObject({ Value: '3', Session: one, LockIndex: 1 });
        expect(await api.kv.set({ key, value: '', release: two })).not.toBe(true);
        expect(await api.kv.set({ key, value: '4', release: one })).toBe(true);
        expect(await api.kv.get(key)).not.toHaveProperty('Session');
        expect(await api.kv.set({ key, value: '5', acquire: two })).toBe(true);
        expect(await api.kv.get(key)).toMatchObject({ Session: two, LockIndex: 2 });
        // A write without the lock succeeds, keeps the holder and resets the count.
        expect(await api.kv.set({ key, value: '6' })).toBe(true);
        expect(await api.kv.get(key)).toMatchObject({ Value: '6', Session: two, LockIndex: 0 });
      });

      test('a destroyed session releases or deletes its keys, and wakes their watches', async () => {
        for (const behavior of ['release', 'delete'] as const) {
          const key = `${freePrefix()}gone`;
          const id = await newSession({ behavior });
          await api.kv.set({ key, value: 'mine', acquire: id });
          const { index } = await read(key);
          const waiting = read(key, { index: String(index), wait: '10s' });
          await api.session.destroy(id);
          const { body } = await waiting;
          if (behavior === 'delete') expect(body).toBe(undefined);
          else expect(body).toMatchObject({ Value: 'mine', LockIndex: 1 });
          expect(body ?? {}).not.toHaveProperty('Session');
        }
      });

      test('a key whose holder was lost cannot be locked during the lock delay, but after it', async () => {
        const key = `${freePrefix()}delayed`;
        const [one, two] = [await newSession({ lockdelay: '1s' }), await newSession()];
        await api.kv.set({ key, value: '1', acquire: one });
        await api.session.destroy(one);
        expect(await api.kv.set({ key, value: '2', acquire: two })).not.toBe(true);
        await until('the lock delay to pass', () => api.kv.set({ key, value: '2', acquire: two }));
        expect(await api.kv.get(key)).toMatchObject({ Session: two, LockIndex: 2 });
      });

      test('a released key can be locked at once, whatever the lock delay', async () => {
        const key = `${freePrefix()}back`;
        const [one, two] = [await newSession({ lockdelay: '15s' }), await newSession()];
        await api.kv.set({ key, value: '1', acquire: one });
        await api.kv.set({ key, value: '1', release: one });
        expect(await api.kv.set({ key, value: '2', acquire: two })).toBe(true);
      });

      test('a session that is not renewed ends after its TTL, and a renewed one stays', async () => {
        const [kept, dropped] = [await newSession({ ttl: '1s' }), await newSession({ ttl: '1s' })];
        await until('the session to expire', async () => {
          await api.session.renew(kept);
          return (await api.session.info(dropped)) === undefined;
        });
        expect(await api.session.info(kept)).toMatchObject({ ID: kept });
        await api.session.destroy(kept);
      });

      test('a watch on a session wakes when it ends', async () => {
        const id = await newSession();
        const { index } = await watched(api.session.info, api.session, { id });
        const waiting = watched(api.session.info, api.session, { id, index: String(index), wait: '10s' });
        await api.session.destroy(id);
        expect((await waiting).body).toBe(undefined);
        expect((await waiting).index).toBeGreaterThan(index);
      });
    });

    describe('services and checks', () => {
      test('a service is on the agent, in the catalog and in health, and is gone when deregistered', async () => {
        const service = {
          id: 'web-1',
          name: 'web',
          port: 80,
          address: '10.0.0.1',
          tags: ['a', 'b'],
          meta: { k: 'v' },
          check: { ttl: '30s', status: 'passing' },
        };
        await api.agent.service.register(service);
        await catalogHas('service:web-1', 'passing');
        expect(await api.agent.service.list({})).toMatchObject({
          'web-1': {
            ID: 'web-1',
            Service: 'web',
            Tags: ['a', 'b'],
            Meta: { k: 'v' },
            Port: 80,
            Address: '10.0.0.1',
            Weights: { Passing: 1, Warning: 1 },
          },
        });
        const { web = [], consul } = (await api.catalog.services({})) as Record<string, string[]>;
        // Consul collects them in a map, so the order varies.
        expect([[...web].sort(), consul]).toEqual([['a', 'b'], []]);
        expect(await api.catalog.service.nodes('web')).toMatchObject([
          { Node: 'katamari', ServiceID: 'web-1', ServicePort: 80, ServiceMeta: { k: 'v' } },
        ]);
        expect(await api.catalog.node.services('katamari')).toMatchObject({
          Node: { Node: 'katamari' },
          Services: { 'web-1': { Service: 'web' } },
        });
        const [found] = (await api.health.service({ service: 'web', passing: true, tag: 'b' })) as {
          Checks: { CheckID: string }[];
        }[];
        expect(found).toMatchObject({
          Node: { Node: 'katamari' },
          Service: { ID: 'web-1', Address: '10.0.0.1', Tags: ['a', 'b'] },
        });
        expect(found?.Checks.map((check) => check.CheckID)).toEqual(['serfHealth', 'service:web-1']);
        expect(await api.health.service({ service: 'web', tag: 'zzz' })).toEqual([]);
        expect(await api.health.checks('web')).toMatchObject([
          { CheckID: 'service:web-1', Name: "Service 'web' check", ServiceName: 'web', Type: 'ttl' },
        ]);

        const { index } = await watched(api.health.service, api.health, { service: 'web' });
        const waiting = watched(api.health.service, api.health, { service: 'web', index: String(index), wait: '10s' });
        await api.agent.service.deregister('web-1');
        expect((await waiting).body).toEqual([]);
        expect((await waiting).index).toBeGreaterThan(index);
        expect(await api.agent.service.list({})).not.toHaveProperty('web-1');
        expect(await api.agent.check.list({})).not.toHaveProperty('service:web-1');
        await api.agent.service.deregister('web-1');
      });

      test('a TTL check has the reported status, and is critical without reports', async () => {
        await api.agent.service.register({ id: 'ttl-1', name: 'ttl', check: { ttl: '30s' } });
        const id = 'service:ttl-1';
        await catalogHas(id, 'critical');
        expect(await api.health.service({ service: 'ttl', passing: true })).toEqual([]);
        await api.agent.check.pass({ id, note: 'fine' });
        await catalogHas(id, 'passing');
        expect(await api.agent.check.list({})).toMatchObject({ [id]: { Status: 'passing', Output: 'fine' } });
        await api.agent.check.warn(id);
        await catalogHas(id, 'warning');
        await api.agent.check.fail(id);
        await catalogHas(id, 'critical');
        expect(await raw('PUT', `/agent/check/update/${id}`, '{"Status":"passing","Output":"so"}')).toEqual([200, '']);
        await catalogHas(id, 'passing');

        await api.agent.check.register({
          name: 'short',
          id: 'short',
          ttl: '100ms',
          status: 'passing',
          serviceid: 'ttl-1',
        });
        await catalogHas('short', 'critical');
        expect(await api.agent.check.list({})).toMatchObject({
          short: { Output: 'TTL expired', ServiceID: 'ttl-1', ServiceName: 'ttl' },
        });
        await api.agent.check.deregister('short');
        expect(await api.agent.check.list({})).not.toHaveProperty('short');
        await api.agent.service.deregister('ttl-1');
      });

      test('registering a service again keeps the status of its check', async () => {
        const service = { id: 're-1', name: 're', check: { ttl: '30s', status: 'passing' } };
        await api.agent.service.register(service);
        await api.agent.check.warn({ id: 'service:re-1', note: 'hm' });
        await api.agent.service.register(service);
        await catalogHas('service:re-1', 'warning');
        expect(await api.agent.check.list({})).toMatchObject({ 'service:re-1': { Status: 'warning', Output: 'hm' } });
        await api.agent.service.deregister('re-1');
      });

      test('a TCP check passes while something listens', async () => {
        let server: Server | undefined = createServer((socket) => socket.destroy());
        await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
        const { port } = server.address() as AddressInfo;
        await api.agent.service.register({
          id: 'tcp-1',
          name: 'tcp',
          port,
          check: { tcp: `127.0.0.1:${port}`, interval: '1s', timeout: '500ms' },
        });
        await catalogHas('service:tcp-1', 'passing');
        expect(await api.agent.check.list({})).toMatchObject({
          'service:tcp-1': { Type: 'tcp', Output: `TCP connect 127.0.0.1:${port}: Success` },
        });
        await new Promise((resolve) => server?.close(resolve));
        server = undefined;
        await catalogHas('service:tcp-1', 'critical');
        expect(await api.agent.check.list({})).toMatchObject({
          'service:tcp-1': { Output: `dial tcp 127.0.0.1:${port}: connect: connection refused` },
        });
        await api.agent.service.deregister('tcp-1');
      });

      test.each([
        ['nowhere', 'dial tcp: address nowhere: missing port in address'],
        ['[::1', "dial tcp: address [::1: missing ']' in address"],
      ])('a TCP check of the invalid address %s is critical and says why', async (tcp, output) => {
        await api.agent.service.register({
          id: 'tcp-2',
          name: 'tcp',
          check: { tcp, interval: '1s', timeout: '500ms' },
        });
        await until('the output', async () => {
          const checks = (await api.agent.check.list({})) as Record<string, { Status: string; Output: string }>;
          return checks['service:tcp-2']?.Output === output;
        });
        expect(await api.agent.check.list({})).toMatchObject({ 'service:tcp-2': { Status: 'critical' } });
        await api.agent.service.deregister('tcp-2');
      });

      test('an HTTP check is passing, warning or critical by the status of the reply', async () => {
        let status = 200;
        const server = createHttpServer((request, response) => {
          response.writeHead(request.headers['x-contract'] === 'yes' ? status : 500).end('well');
        });
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/healthz`;
        await api.agent.check.register({
          name: 'http',
          id: 'http-1',
          http: url,
          header: { 'X-Contract': ['yes'] },
          interval: '1s',
          timeout: '1s',
        });
        await catalogHas('http-1', 'passing');
        expect(await api.agent.check.list({})).toMatchObject({
          'http-1': { Type: 'http', Output: `HTTP GET ${url}: 200 OK Output: well` },
        });
        status = 429;
        await catalogHas('http-1', 'warning');
        status = 503;
        await catalogHas('http-1', 'critical');
        await api.agent.check.deregister('http-1');
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      });

      test('maintenance makes a service and a node critical until it ends', async () => {
        await api.agent.service.register({ id: 'mt-1', name: 'mt' });
        await api.agent.service.maintenance({ id: 'mt-1', enable: true, reason: 'cleaning' });
        await catalogHas('_service_maintenance:mt-1', 'critical');
        expect(await api.health.service({ service: 'mt', passing: true })).toEqual([]);
        await api.agent.service.maintenance({ id: 'mt-1', enable: false });
        await until(
          'the service to be back',
          async () => ((await api.health.service({ service: 'mt', passing: true })) as unknown[]).length === 1,
        );
        await api.agent.maintenance({ enable: true });
        await catalogHas('_node_maintenance', 'critical');
        await api.agent.maintenance({ enable: false });
        await until(
          'the node to be back',
          async () => ((await api.health.service({ service: 'mt', passing: true })) as unknown[]).length === 1,
        );
        await api.agent.service.deregister('mt-1');
      });

      test('a session depends on its check: when that is critical or gone, the session ends and its keys are released', async () => {
        for (const end of ['fail', 'deregister'] as const) {
          const key = `${freePrefix()}ephemeral`;
          await api.agent.service.register({ id: 'se-1', name: 'se', check: { ttl: '30s', status: 'passing' } });
          await catalogHas('service:se-1', 'passing');
          const id = await newSession({ checks: ['service:se-1'], behavior: 'delete' });
          expect(await api.session.info(id)).toMatchObject({ Checks: ['service:se-1'], NodeChecks: ['serfHealth'] });
          await api.kv.set({ key, value: 'here', acquire: id });
          const waiting = read(key, { index: String((await read(key)).index), wait: '10s' });
          if (end === 'fail') await api.agent.check.fail('service:se-1');
          else await api.agent.service.deregister('se-1');
          expect((await waiting).body).toBe(undefined);
          expect(await api.session.info(id)).toBe(undefined);
          if (end === 'fail') {
            await expect(newSession({ checks: ['service:se-1'] })).rejects.toThrow(
              "Check 'service:se-1' is in critical state",
            );
            await api.agent.service.deregister('se-1');
            await until('the check to go', async () => ((await api.health.checks('se')) as unknown[]).length === 0);
          }
        }
      });

      test('nodes without an agent can be registered in the catalog', async () => {
        await api.catalog.register({ node: 'ext', address: '10.1.1.1', service: { service: 'extsvc', port: 5 } });
        expect(await api.catalog.service.nodes('extsvc')).toMatchObject([
          { Node: 'ext', Address: '10.1.1.1', ServicePort: 5 },
        ]);
        expect(((await api.catalog.nodes({})) as { Node: string }[]).map((node) => node.Node)).toEqual([
          'ext',
          'katamari',
        ]);
        await api.catalog.deregister({ node: 'ext' });
        expect(await api.catalog.service.nodes('extsvc')).toEqual([]);
      });
    });

    describe('transactions', () => {
      test('all operations take effect with one index, and reads among them see the writes', async () => {
        const at = freePrefix();
        const { Results } = (await api.transaction.create([
          { KV: { Verb: 'set', Key: `${at}a`, Value: 'MQ==', Flags: 3 } },
          { KV: { Verb: 'cas', Key: `${at}b`, Value: 'Mg==', Index: 0 } },
          { KV: { Verb: 'get', Key: `${at}a` } },
          { KV: { Verb: 'get-tree', Key: at } },
        ])) as { Results: { KV: Entry }[] };
        expect(Results.map(({ KV }) => [KV.Key, KV.Value])).toEqual([
          [`${at}a`, null],
          [`${at}b`, null],
          [`${at}a`, 'MQ=='],
          [`${at}a`, 'MQ=='],
          [`${at}b`, 'Mg=='],
        ]);
        expect(new Set(Results.map(({ KV }) => KV.ModifyIndex)).size).toBe(1);
      });

      test('a failed one undoes everything, says which operation failed and why, and wakes no watch', async () => {
        const at = freePrefix();
        await api.kv.set({ key: `${at}held`, value: 'x' });
        const before = await readTree(at);
        const operations = [
          { KV: { Verb: 'set', Key: `${at}a`, Value: 'MQ==' } },
          { KV: { Verb: 'delete', Key: `${at}held` } },
          { KV: { Verb: 'delete-tree', Key: at } },
          { KV: { Verb: 'cas', Key: `${at}b`, Value: 'Mg==', Index: 77 } },
          { KV: { Verb: 'get', Key: `${at}none` } },
        ];
        const failure = (await api.transaction.create(operations).catch((error: unknown) => error)) as {
          statusCode: number;
          response: { body: unknown };
        };
        expect(failure.statusCode).toBe(409);
        expect(failure.response.body).toMatchObject({
          Results: null,
          Errors: [
            { OpIndex: 3, What: `failed to set key "${at}b", index is stale` },
            { OpIndex: 4, What: `key "${at}none" doesn't exist` },
          ],
        });
        expect(await readTree(at)).toEqual(before);
      });

      test('locks can be taken, checked and released in one', async () => {
        const key = `${freePrefix()}txn-lock`;
        const session = await newSession();
        const { Results } = (await api.transaction.create([
          { KV: { Verb: 'lock', Key: key, Value: 'MQ==', Session: session } },
          { KV: { Verb: 'check-session', Key: key, Session: session } },
          { KV: { Verb: 'unlock', Key: key, Value: 'Mg==', Session: session } },
        ])) as { Results: { KV: Entry }[] };
        expect(Results.map(({ KV }) => KV.Session)).toEqual([session, session, undefined]);
        expect(await api.kv.get(key)).toMatchObject({ Value: '2', LockIndex: 1 });
      });
    });

    test('status, datacenters and the agent itself are available', async () => {
      expect(await api.status.leader({})).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(await api.status.peers({})).toEqual([await api.status.leader({})]);
      expect(await api.catalog.datacenters({})).toEqual(['dc1']);
      expect(await api.agent.self({})).toMatchObject({
        Config: { Datacenter: 'dc1', NodeName: 'katamari', Server: true, Version: '1.8.7' },
      });
      expect(await api.agent.members({})).toMatchObject([{ Name: 'katamari', Status: 1 }]);
      expect(await raw('GET', '/agent/metrics')).toMatchObject([200, expect.stringContaining('"Gauges"')]);
    });

    const nobody = '11111111-1111-1111-1111-111111111111';
    const MISTAKES: readonly (readonly [string, string, string | undefined, number, string])[] = [
      ['GET', '/kv/', undefined, 400, 'Missing key name'],
      ['PUT', '/kv/', 'x', 400, 'Missing key name'],
      ['DELETE', '/kv/', undefined, 400, 'Missing key name'],
      ['POST', '/kv/a', 'x', 405, 'method POST not allowed'],
      ['GET', '/kv/a?index=zz', undefined, 400, 'Invalid index'],
      ['GET', '/kv/a?index=-1', undefined, 400, 'Invalid index'],
      ['GET', '/kv/a?index=1&wait=zz', undefined, 400, 'Invalid wait time'],
      [
        'GET',
        '/kv/a?stale&consistent',
        undefined,
        400,
        'Cannot specify ?stale with ?consistent, conflicting semantics.',
      ],
      ['GET', '/kv/a?dc=moon', undefined, 500, 'No path to datacenter'],
      ['PUT', '/kv/a?cas=zz', 'x', 500, 'strconv.ParseUint: parsing "zz": invalid syntax'],
      [
        'PUT',
        '/kv/a?flags=99999999999999999999',
        'x',
        500,
        'strconv.ParseUint: parsing "99999999999999999999": value out of range',
      ],
      ['PUT', '/kv/a?acquire=nope', 'x', 500, 'failed session lookup: index error: UUID must be 36 characters'],
      ['PUT', `/kv/a?acquire=${nobody}`, 'x', 500, `invalid session "${nobody}"`],
      ['PUT', '/kv/a?acquire=', 'x', 500, 'missing session'],
      ['PUT', '/kv/a?acquire=a&release=b', 'x', 400, 'Conflicting flags: acquire=a&release=b'],
      ['DELETE', '/kv/a?cas=1&recurse', undefined, 400, 'Conflicting flags: cas=1&recurse='],
      ['GET', '/session/info/', undefined, 400, 'Missing session'],
      ['GET', '/session/info/zz', undefined, 500, 'failed session lookup: index error: UUID must be 36 characters'],
      ['GET', '/session/create', undefined, 405, 'method GET not allowed'],
      ['PUT', `/session/renew/${nobody}`, undefined, 404, `Session id '${nobody}' not found`],
      ['PUT', '/session/destroy/', undefined, 400, 'Missing session'],
      ['PUT', '/session/create', '{"TTL":"zz"}', 500, 'Session TTL \'zz\' invalid: time: invalid duration "zz"'],
      [
        'PUT',
        '/session/create',
        '{"TTL":"500ms"}',
        500,
        "Invalid Session TTL '500000000', must be between [1s=24h0m0s]",
      ],
      [
        'PUT',
        '/session/create',
        '{"TTL":5}',
        400,
        'Request decode failed: json: cannot unmarshal number into Go struct field .TTL of type string',
      ],
      ['PUT', '/session/create', '{"Behavior":"zz"}', 500, "Invalid Behavior setting 'zz'"],
      ['PUT', '/session/create', '{"Checks":["nope"]}', 500, "Missing check 'nope' registration"],
      ['PUT', '/session/create', '{"Node":"nope"}', 500, 'Missing node registration'],
      ['PUT', '/session/create', '{"LockDelay":"zz"}', 400, 'Request decode failed: time: invalid duration "zz"'],
      [
        'PUT',
        '/session/create',
        'junk',
        400,
        "Request decode failed: invalid character 'j' looking for beginning of value",
      ],
      ['PUT', '/agent/service/register', '{}', 400, 'Missing service name'],
      ['PUT', '/agent/service/register', '', 400, 'Request decode failed: EOF'],
      [
        'PUT',
        '/agent/service/register',
        '{"Name":"x","Bogus":1}',
        400,
        'Request decode failed: json: unknown field "Bogus"',
      ],
      [
        'PUT',
        '/agent/service/register',
        '{"Name":"x","Check":{"TCP":"x"}}',
        400,
        'Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks',
      ],
      [
        'PUT',
        '/agent/service/register',
        '{"Name":"x","Check":{"TTL":"1s","Status":"odd"}}',
        400,
        "Status for checks must 'passing', 'warning', 'critical'",
      ],
      ['PUT', '/agent/service/maintenance/nope', undefined, 400, 'Missing value for enable'],
      ['PUT', '/agent/service/maintenance/nope?enable=true', undefined, 404, 'No service registered with ID "nope"'],
      ['GET', '/agent/service/nope', undefined, 404, 'unknown service ID: nope'],
      ['PUT', '/agent/check/register', '{"TTL":"1s"}', 400, 'Missing check name'],
      ['PUT', '/agent/check/register', '{"Name":"x"}', 400, 'Invalid check: TTL must be > 0 for TTL checks'],
      [
        'PUT',
        '/agent/check/register',
        '{"Name":"x","TTL":"1s","Interval":"1s"}',
        400,
        'Invalid check: Interval and TTL cannot both be specified',
      ],
      [
        'PUT',
        '/agent/check/register',
        '{"Name":"x","TTL":"1s","ServiceID":"nope"}',
        500,
        'ServiceID "nope" does not exist',
      ],
      ['PUT', '/agent/check/register', '{"Name":"x","TTL":"1s","Status":"odd"}', 400, 'Bad check status'],
      ['PUT', '/agent/check/pass/nope', undefined, 500, 'CheckID "nope" does not have associated TTL'],
      ['PUT', '/agent/check/update/nope', '{"Status":"zz"}', 400, "Invalid check status: 'zz'"],
      ['PUT', '/agent/check/deregister/nope', undefined, 200, ''],
      ['GET', '/health/service/web?passing=zz', undefined, 400, 'Invalid value for ?passing'],
      ['GET', '/health/service/', undefined, 400, 'Missing service name'],
      ['GET', '/health/service/nope', undefined, 200, '[]'],
      ['GET', '/catalog/service/nope', undefined, 200, '[]'],
      ['GET', '/catalog/node/nope', undefined, 200, 'null'],
      ['PUT', '/txn', 'junk', 400, "Failed to parse body: invalid character 'j' looking for beginning of value"],
      [
        'PUT',
        '/txn',
        '[{"KV":{"Verb":"set","Key":"t","Value":"!!"}}]',
        400,
        'Failed to parse body: illegal base64 data at input byte 0',
      ],
      [
        'PUT',
        '/txn',
        `[${Array.from({ length: 65 }, () => '{"KV":{"Verb":"get","Key":"k"}}').join(',')}]`,
        413,
        'Transaction contains too many operations (65 > 64)',
      ],
      ['GET', '/acl/list', undefined, 401, 'ACL support disabled'],
      ['GET', '/nothing', undefined, 404, ''],
    ];
    for (const [method, path, body, status, text] of MISTAKES) {
      test(`${method} ${path.length > 60 ? path.slice(0, 60) : path} ${(body ?? '').slice(0, 50)} is answered with ${status} ${text}`, async () => {
        expect(await raw(method, path, body)).toEqual([status, text]);
      });
    }

    test('invalid operations of a transaction are answered with 409 and their index', async () => {
      for (const [operation, what] of [
        [{ Verb: 'zz', Key: 'k' }, 'unknown KV verb "zz"'],
        [{ Verb: 'set', Key: '', Value: 'MQ==' }, 'Must provide key'],
        [{ Verb: 'check-index', Key: 'txn/none', Index: 1 }, 'failed to check index, key "txn/none" doesn\'t exist'],
        [{ Verb: 'lock', Key: 'txn/none', Session: nobody }, `invalid session "${nobody}"`],
        [
          { Verb: 'unlock', Key: 'txn/none', Session: nobody },
          'failed to unlock key "txn/none", lock isn\'t held, or is held by another session',
        ],
      ] as const) {
        const [status, body] = await raw('PUT', '/txn', JSON.stringify([{ KV: operation }]));
        expect(status).toBe(409);
        expect(JSON.parse(body)).toMatchObject({ Results: null, Errors: [{ OpIndex: 0, What: what }] });
      }
    });

    test('a path that is not clean is redirected to its clean form', async () => {
      const response = await fetch(`http://${consul.address}/v1/kv//abs`, { redirect: 'manual' });
      expect([response.status, response.headers.get('location')]).toEqual([301, '/v1/kv/abs']);
    });
  });
}
