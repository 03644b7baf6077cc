// ConsulClient.transact() on both kinds of Consul: it fences out a deposed leader.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, ConsulError, type ConsulClient } from '../../../services/consul/mod.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';

for (const kind of CONSUL_KINDS) {
  describe(`ConsulClient.transact() on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let corners = 0;
    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
    });
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });
    const newSession = (): Promise<string> =>
      client.createSession({ name: 'x', ttlMs: 60_000, lockDelayMs: 0, behavior: 'release', checks: ['serfHealth'] });

    test('writes all or nothing, and only while the session holds the key', async () => {
      const at = `txn/${++corners}/`;
      const [mine, other] = [await newSession(), await newSession()];
      await client.put(`${at}leader`, 'me', { acquire: mine });
      const write = (session: string, index: number) =>
        client.transact([
          { verb: 'check-session', key: `${at}leader`, session },
          { verb: 'cas', key: `${at}a`, value: 'ä/"1"', index },
          { verb: 'cas', key: `${at}b`, value: '', index },
        ]);
      const done = await write(mine, 0);
      const entry = await client.get(`${at}a`);
      expect(entry).toMatchObject({ value: 'ä/"1"' });
      expect(done).toEqual({ isDone: true, index: entry?.modifyIndex });

      // The key has changed in the meantime: neither is written.
      const stale = await write(mine, 0);
      expect(stale).toMatchObject({ isDone: false, refused: [{ at: 1 }, { at: 2 }] });
      // Another session, and one that has released the key.
      expect(await write(other, entry?.modifyIndex ?? 0)).toMatchObject({ isDone: false, refused: [{ at: 0 }] });
      await client.destroySession(mine);
      const late = await write(mine, entry?.modifyIndex ?? 0);
      expect(late).toMatchObject({ isDone: false, refused: [{ at: 0 }] });
      expect(late.isDone ? '' : late.refused[0]?.why).toMatch(/failed session check for key .*leader/);
      expect(await client.get(`${at}a`)).toEqual(entry);
      // A refusal is an answer and no failure of Consul.
      expect(client.stats().errors).toBe(0);
    });

    test('deletes and checks by index', async () => {
      const at = `txn/${++corners}/`;
      await client.put(`${at}a`, 'x');
      await client.put(`${at}b`, 'x');
      const index = (await client.get(`${at}a`))?.modifyIndex ?? 0;
      const steps = (key: number, own: number) =>
        client.transact([
          { verb: 'check-index', key: `${at}a`, index: key },
          { verb: 'delete-cas', key: `${at}b`, index: own },
        ]);
      const own = (await client.get(`${at}b`))?.modifyIndex ?? 0;
      expect(await steps(index + 1, own)).toMatchObject({ isDone: false, refused: [{ at: 0 }] });
      expect(await steps(index, own + 1)).toMatchObject({ isDone: false, refused: [{ at: 1 }] });
      expect(await steps(index, own)).toMatchObject({ isDone: true });
      expect(await client.get(`${at}b`)).toBe(undefined);
    });

    test('releases a lock and takes it again, and each time increments the lock index', async () => {
      const key = `txn/${++corners}/lock`;
      const session = await newSession();
      await client.put(key, 'x', { acquire: session });
      const again = [
        { verb: 'unlock', key, value: 'x', session },
        { verb: 'lock', key, value: 'x', session },
      ] as const;
      expect(await client.transact([...again, ...again, ...again])).toMatchObject({ isDone: true });
      expect(await client.get(key)).toMatchObject({ session, lockIndex: 4 });
      await client.destroySession(session);
    });

    test('fails like any other request when it is invalid or too large', async () => {
      const value = 'x'.repeat(600 * 1_024);
      const failure = await client
        .transact([{ verb: 'cas', key: 'txn/big', value, index: 0 }])
        .catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ConsulError);
      expect(failure).toMatchObject({ status: 413 });
      expect(client.stats().errors).toBe(1);
    });
  });
}
