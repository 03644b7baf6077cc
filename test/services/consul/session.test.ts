// A process's session and its keys, on both kinds of Consul: lost and recreated, frozen, killed, restarted with and
// without data.

import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { consulClient, type ConsulClient, type ConsulError, ConsulSession } from '../../../services/consul/mod.ts';
import type { ConsulSessionOptions } from '../../../services/consul/session.ts';
import { until } from '../../kit/tools/wait.ts';

for (const kind of CONSUL_KINDS) {
  describe(`ConsulSession on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    const sessions: ConsulSession[] = [];
    let names = 0;

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address, timeoutMs: 2_000 });
    });
    afterEach(async () => {
      await Promise.all(sessions.splice(0).map((session) => session.close()));
    });
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });

    const newSession = (
      options: Partial<ConsulSessionOptions> = {},
    ): { session: ConsulSession; name: string; events: string[]; errors: ConsulError[] } => {
      const events: string[] = [];
      const errors: ConsulError[] = [];
      const name = options.name ?? `process-${++names}`;
      const session = new ConsulSession({
        client,
        name,
        service: { name: 'katamari-test', host: '127.0.0.1', port: 1 },
        onLost: () => events.push('lost'),
        onRestored: () => events.push('restored'),
        onError: (error) => errors.push(error),
        ...options,
      });
      sessions.push(session);
      return { session, name, events, errors };
    };
    const valueOf = async (key: string): Promise<string | undefined> => (await client.get(key))?.value;

    test('announces keys while it is open, and withdraws them when it closes', async () => {
      const { session, name, errors } = newSession();
      await session.start();
      const key = `test/managers/${name}`;
      expect(await session.announce(key, 'one')).toBe(true);
      expect(await client.get(key)).toMatchObject({ value: 'one', session: session.id, lockIndex: 1 });
      expect(await session.announce(key, 'two')).toBe(true);
      expect(await session.announce(key, 'two')).toBe(true);
      expect(await valueOf(key)).toBe('two');
      expect(await session.announce(`${key}/more`, 'x')).toBe(true);
      await session.withdraw(`${key}/more`);
      expect(await valueOf(`${key}/more`)).toBe(undefined);
      expect(await client.serviceIds()).toContain(session.serviceId);
      expect(session.stats()).toMatchObject({ isHeld: true, losses: 0, errors: 0, keysAnnounced: 1, keysHeld: 1 });
      const { id } = session;
      await session.close();
      await session.close();
      expect(await valueOf(key)).toBe(undefined);
      expect(await client.hasSession(id)).toMatchObject({ lives: false });
      expect(await client.serviceIds()).not.toContain(session.serviceId);
      expect(errors).toEqual([]);
    });

    test('announces keys that were requested before it started', async () => {
      const { session, name } = newSession();
      const held = session.announce(`test/early/${name}`, 'x');
      await session.start();
      expect(await held).toBe(true);
      expect(await valueOf(`test/early/${name}`)).toBe('x');
    });

    test('is recreated with its keys when it is destroyed', async () => {
      const { session, name, events } = newSession();
      await session.start();
      const key = `test/managers/${name}`;
      await session.announce(key, 'here');
      const before = session.id;
      await client.destroySession(before);
      await until(
        'the key to be back',
        async () => (await client.get(key))?.session === session.id && session.id !== '',
      );
      expect(session.id).not.toBe(before);
      expect(await valueOf(key)).toBe('here');
      expect(events).toEqual(['lost', 'restored']);
      expect(session.stats()).toMatchObject({ losses: 1, keysHeld: 1 });
    });

    test('lives by its renewals, and knows until when it is certainly valid', async () => {
      const { session } = newSession({ ttlMs: 1_000 });
      await session.start();
      const { id } = session;
      const first = session.certainUntilMs;
      await until('a few renewals', () => session.stats().renewals >= 8);
      expect(session.id).toBe(id);
      expect(session.certainUntilMs).toBeGreaterThan(first);
      expect(session.stats().losses).toBe(0);
    });

    /** What a process leaves behind when it is killed, or stopped while Consul is away. */
    const leaveSession = async (name: string, port: number): Promise<string> => {
      await client.registerService({
        id: `katamari-test:${name}`,
        name: 'katamari-test',
        host: '127.0.0.1',
        port,
        tags: [],
        meta: {},
        check: { kind: 'ttl', ttlMs: 60_000 },
        deregisterAfterMs: 60_000,
      });
      const request = { name, ttlMs: 60_000, lockDelayMs: 0, behavior: 'delete', checks: [] } as const;
      const checks = [`service:katamari-test:${name}`];
      const create = (): Promise<string> => client.createSession({ ...request, checks });
      const id = await until('the check to be known', () => create().catch(() => undefined));
      await client.put(`test/managers/${name}`, 'old', { acquire: id });
      return id;
    };

    test('destroys the sessions of its predecessor at start, and has its keys at once', async () => {
      const old = await leaveSession('phoenix', 1);
      const { session, errors } = newSession({ name: 'phoenix' });
      await session.start();
      expect(await client.hasSession(old)).toMatchObject({ lives: false });
      expect(await session.announce('test/managers/phoenix', 'new')).toBe(true);
      expect(await client.get('test/managers/phoenix')).toMatchObject({ value: 'new', session: session.id });
      expect(errors).toEqual([]);
    });

    test('keeps the session of a process with the same name at another address', async () => {
      const other = await leaveSession('namesake', 2);
      const { session } = newSession({ name: 'namesake' });
      await session.start();
      expect(await client.hasSession(other)).toMatchObject({ lives: true });
      expect(await valueOf('test/managers/namesake')).toBe('old');
      await client.destroySession(other);
    });

    test('waits until its predecessor releases a key, then takes it', async () => {
      const one = newSession({ name: 'twin', service: { name: 'katamari-test-1', host: '127.0.0.1', port: 1 } });
      const two = newSession({ name: 'twin', service: { name: 'katamari-test-2', host: '127.0.0.1', port: 1 } });
      await Promise.all([one.session.start(), two.session.start()]);
      await one.session.announce('test/managers/twin', 'old');
      const taken = two.session.announce('test/managers/twin', 'new');
      await until(
        'it to be refused once',
        async () => two.session.stats().keysHeld === 0 && (await valueOf('test/managers/twin')) === 'old',
      );
      await one.session.close();
      expect(await taken).toBe(true);
      expect(await valueOf('test/managers/twin')).toBe('new');
    });

    test('locks a key for one process only, and does not take it again by itself after losing it', async () => {
      const [one, two] = [newSession({ behavior: 'release' }), newSession({ behavior: 'release' })];
      expect(await one.session.lock('test/leader', 'one')).toBe(false);
      await Promise.all([one.session.start(), two.session.start()]);
      expect(await one.session.lock('test/leader', 'one')).toBe(true);
      expect(await two.session.lock('test/leader', 'two')).toBe(false);
      expect(await two.session.unlock('test/leader', '')).toBe(false);
      const term = (await client.get('test/leader'))!.lockIndex;
      await client.destroySession(one.session.id);
      await until('the session to be made anew', () => one.events.includes('restored'));
      expect(await client.get('test/leader')).toMatchObject({ value: 'one', session: '' });
      expect(await two.session.lock('test/leader', 'two')).toBe(true);
      expect((await client.get('test/leader'))!.lockIndex).toBe(term + 1);
      expect(await two.session.unlock('test/leader', '')).toBe(true);
    });

    test('ends with its process: a closed port ends it within the check interval, long before the TTL', async () => {
      let server: Server | undefined = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as { port: number };
      const check = { kind: 'tcp', address: `127.0.0.1:${port}`, intervalMs: 1_000, timeoutMs: 500 } as const;
      const { session, name, events } = newSession({ check, ttlMs: 600_000 });
      await session.start();
      const key = `test/managers/${name}`;
      await session.announce(key, 'x');
      await new Promise((resolve) => server?.close(resolve));
      await until('the key to be gone', async () => (await valueOf(key)) === undefined);
      await until('the session to know', () => events.length > 0);
      expect(events).toEqual(['lost']);
      // It listens again, like a process that was frozen and continues.
      server = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server?.listen(port, '127.0.0.1', resolve));
      await until('the key to be back', async () => (await valueOf(key)) === 'x');
      expect(events).toEqual(['lost', 'restored']);
      await session.close();
      await new Promise((resolve) => server?.close(resolve));
    });

    test('survives that Consul is killed, restarted, and restarted without its data', async () => {
      const { session, name, errors } = newSession();
      await session.start();
      const key = `test/managers/${name}`;
      await session.announce(key, 'still here');
      for (const isEmpty of [false, true]) {
        await consul.kill();
        const errorsBefore = errors.length;
        await until('it to notice', () => errors.length > errorsBefore);
        // Nothing is given up while Consul is away.
        expect(session.stats().keysAnnounced).toBe(1);
        await consul.start({ isEmpty });
        await until(
          'the key to be held again',
          async () => {
            const entry = await client.get(key).catch(() => undefined);
            return entry?.value === 'still here' && entry.session === session.id && session.stats().isHeld;
          },
          15_000,
        );
        await until('the service to be back', async () => (await client.serviceIds()).includes(session.serviceId));
      }
      expect(errors[0]?.message).toMatch(/at Consul 127\.0\.0\.1:\d+: .*Is Consul running there\?/);
    });

    test('starts once Consul is available', async () => {
      await consul.kill();
      const { session, name, errors } = newSession();
      const held = session.announce(`test/managers/${name}`, 'x');
      const started = session.start();
      await until('a failed try', () => errors.length > 0);
      await consul.start();
      await started;
      expect(await held).toBe(true);
    });

    test('closes at once while Consul is away', async () => {
      const { session, name, errors } = newSession();
      await session.start();
      const held = session.announce(`test/managers/${name}`, 'x');
      await held;
      await consul.kill();
      await session.close();
      expect(errors.length).toBeGreaterThan(0);
      const other = newSession();
      const never = other.session.announce('test/never', 'x');
      void other.session.start();
      await other.session.close();
      expect(await never).toBe(false);
      await consul.start();
    });
  });
}
