// Leader election on the embedded and the real Consul: killed, resigned, frozen, outranked and replaced leaders, and
// a Consul that lost its data.

import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { systemClock, type Clock } from '../../../core/mod.ts';
import { ConsulClient, ConsulError, consulClient } from '../../../services/consul/mod.ts';
import type { ElectionOptions } from '../../../services/master/election.ts';
import { Election } from '../../../services/master/mod.ts';
import { EventLog, keysOf } from '../../../services/mesh/mod.ts';
import { until } from '../../kit/tools/wait.ts';

/** The real clock, but it can jump ahead without running timers, like the clock of a frozen process. */
class JumpingClock implements Clock {
  #aheadMs = 0;
  nowMs(): number {
    return systemClock.nowMs() + this.#aheadMs;
  }
  after(delayMs: number, act: () => void): () => void {
    return systemClock.after(delayMs, act);
  }
  jump(byMs: number): void {
    this.#aheadMs += byMs;
  }
}

/**
 * A client that receives no watch responses while it is blind, as on a failing network; its requests still arrive.
 */
class BlindClient extends ConsulClient {
  isBlind = false;
  /** Hides this key from lists. */
  hidden: () => string = () => '';
  override async list(...given: Parameters<ConsulClient['list']>): ReturnType<ConsulClient['list']> {
    const answer = await super.list(...given);
    if (given[0] === this.hidden()) return { ...answer, entries: [] };
    return this.isBlind ? this.#never(given[1]?.signal) : answer;
  }
  override async hasSession(...given: Parameters<ConsulClient['hasSession']>): ReturnType<ConsulClient['hasSession']> {
    const answer = await super.hasSession(...given);
    return this.isBlind ? this.#never(given[1]?.signal) : answer;
  }
  #never(signal: AbortSignal | undefined): Promise<never> {
    const gone = new ConsulError('cancelled', 0, true, undefined);
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(gone), { once: true }));
  }
}

/** A port for Consul's check. */
class CheckedPort {
  readonly #server: Server = createServer((socket) => socket.destroy());
  port = 0;
  async open(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.port, '127.0.0.1', resolve));
    this.port = (this.#server.address() as { port: number }).port;
    return this;
  }
  async shut(): Promise<void> {
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}

interface Master {
  readonly name: string;
  readonly election: Election;
  readonly listener: CheckedPort;
  /** Its callbacks in order: `lead TERM`, `follow`. */
  readonly told: string[];
  readonly events: EventLog;
}

for (const kind of CONSUL_KINDS) {
  describe(`Election on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let meshes = 0;
    let mesh = '';
    const masters: Master[] = [];

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address, timeoutMs: 2_000 });
    });
    afterEach(async () => {
      await Promise.all(masters.map(({ election }) => election.close()));
      await Promise.all(masters.splice(0).map(({ listener }) => listener.shut()));
      mesh = '';
    });
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });

    const newMaster = async (name: string, options: Partial<ElectionOptions> = {}): Promise<Master> => {
      if (mesh === '') mesh = `mesh-${++meshes}`;
      const listener = await new CheckedPort().open();
      const told: string[] = [];
      const events = new EventLog(name);
      const election = new Election({
        client,
        mesh,
        name,
        rank: 1,
        machine: `machine-of-${name}`,
        stats: { host: '127.0.0.1', port: listener.port },
        events,
        onLead: (term) => told.push(`lead ${term}`),
        onFollow: () => told.push('follow'),
        ...options,
      });
      const master = { name, election, listener, told, events };
      masters.push(master);
      await election.start();
      return master;
    };
    const leads = ({ election, name }: Master): Promise<number> =>
      until(`${name} to lead`, () => (election.leader?.name === name ? election.term : undefined), 20_000);
    const listed = (count: number): Promise<unknown> =>
      until(`${count} masters everywhere`, () => masters.every(({ election }) => election.masters().length === count));
    const leaderEntry = async () => (await client.get(keysOf(mesh).leader))!;

    test('elects the first of the living masters as the only leader, and all see it with its term', async () => {
      const b = await newMaster('b');
      const term = await leads(b);
      const a = await newMaster('a', { rank: 2 });
      const c = await newMaster('c', { rank: 3 });
      await listed(3);
      expect(c.election.masters().map((one) => [one.name, one.rank, one.machine])).toEqual([
        ['b', 1, 'machine-of-b'],
        ['a', 2, 'machine-of-a'],
        ['c', 3, 'machine-of-c'],
      ]);
      for (const { election } of masters) {
        await until('the leader to be seen', () => election.leader);
        expect(election.leader).toEqual({ name: 'b', term });
      }
      expect([a.election.term, c.election.term]).toEqual([undefined, undefined]);
      expect(b.told).toEqual([`lead ${term}`]);
      expect((await leaderEntry()).lockIndex).toBe(term);
      expect(a.events.after(0).map((event) => [event.kind, event.subject, event.text])).toEqual([
        ['leader_changed', 'b', `leads in term ${term}`],
      ]);
    });

    test('elects the next master when the leader is killed, in a later term', async () => {
      const a = await newMaster('a');
      const first = await leads(a);
      const b = await newMaster('b', { rank: 2 });
      const c = await newMaster('c', { rank: 3 });
      await listed(3);
      await a.listener.shut();
      const second = await leads(b);
      expect(second).toBeGreaterThan(first);
      await until('the old leader to know', () => a.told.includes('follow'));
      expect(a.election.term).toBe(undefined);
      await b.listener.shut();
      expect(await leads(c)).toBeGreaterThan(second);
      expect(c.election.masters().map(({ name }) => name)).toEqual(['c']);
    });

    test('ends at once when the session is destroyed, and elects again in a new term', async () => {
      const a = await newMaster('a');
      const first = await leads(a);
      await client.destroySession((await leaderEntry()).session);
      await until('it to know', () => a.told.includes('follow'));
      const second = await leads(a);
      expect(second).toBeGreaterThan(first);
      expect(a.told).toEqual([`lead ${first}`, 'follow', `lead ${second}`]);
    });

    test('hands over when the leader resigns, before its absence could be noticed', async () => {
      const a = await newMaster('a');
      const first = await leads(a);
      const b = await newMaster('b', { rank: 2 });
      await listed(2);
      await a.election.resign();
      expect(a.told).toEqual([`lead ${first}`, 'follow']);
      // Its check or its TTL would reveal a killed master. Neither has expired: its session is still alive.
      const second = await leads(b);
      expect(second).toBe(first + 1);
      expect(a.election.stats().session).toMatchObject({ isHeld: true, losses: 0 });
      expect((await client.get(`${keysOf(mesh).masters}a`))?.value).toBe(undefined);
      await a.election.close();
      expect(b.told).toEqual([`lead ${second}`]);
    });

    test('passes to a master of higher rank once it has stayed, and back when that one leaves', async () => {
      const b = await newMaster('b', { rank: 2 });
      const first = await leads(b);
      const a = await newMaster('a', { rank: 1 });
      const second = await leads(a);
      expect(second).toBeGreaterThan(first);
      expect(b.told).toEqual([`lead ${first}`, 'follow']);
      await a.election.close();
      expect(await leads(b)).toBeGreaterThan(second);
    });

    test('does not wait forever for a living master that does not take the lock', async () => {
      const b = await newMaster('b', { rank: 2 });
      // It has the highest rank and never requests the lock.
      const stuck = await client.createSession({
        name: 'stuck',
        ttlMs: 60_000,
        lockDelayMs: 0,
        behavior: 'delete',
        checks: ['serfHealth'],
      });
      const record = JSON.stringify({ rank: 1, machine: 'x', stats: '' });
      await client.put(`${keysOf(mesh).masters}stuck`, record, { acquire: stuck });
      await until('it to be seen', () => b.election.masters()[0]?.name === 'stuck');
      const first = await leads(b);
      await until('it to make way', () => b.told.includes('follow'));
      const second = await leads(b);
      expect(second).toBeGreaterThan(first);
      await client.destroySession(stuck);
    });

    test('is uncertain after a jump of the clock, until Consul has confirmed it', async () => {
      const clock = new JumpingClock();
      const a = await newMaster('a', { clock, ttlMs: 10_000 });
      const term = await leads(a);
      const { renewals } = a.election.stats().session;
      clock.jump(7_000);
      expect(a.election.term).toBe(term);
      // Within the TTL, but possibly over by the time that a write arrives.
      clock.jump(1_500);
      expect(a.election.term).toBe(undefined);
      expect(await a.election.write(term, [{ verb: 'cas', key: 'late', value: 'x', index: 0 }])).toEqual({
        kind: 'stale',
      });
      expect(await client.get('late')).toBe(undefined);
      expect(a.told).toEqual([`lead ${term}`, 'follow']);
      // The session is alive, so the term is the same.
      expect(await leads(a)).toBe(term);
      expect(a.election.stats().session.renewals).toBeGreaterThan(renewals);
      await until('it to be told', () => a.told.length === 3);
      expect(a.told).toEqual([`lead ${term}`, 'follow', `lead ${term}`]);
    });

    test('lets the leader write, and refuses writes of a deposed leader, whatever it believes', async () => {
      const blind = new BlindClient({ address: consul.address });
      const a = await newMaster('a', { client: blind });
      const b = await newMaster('b', { rank: 2 });
      await listed(2);
      const term = await leads(a);
      const key = `${keysOf(mesh).assignments}m1`;
      const write = (who: Master, its: number, value: string, index: number) =>
        who.election.write(its, [{ verb: 'cas', key, value, index }]);
      const done = await write(a, term, '1', 0);
      expect(done).toMatchObject({ kind: 'done' });
      const { modifyIndex } = (await client.get(key))!;
      expect(done).toEqual({ kind: 'done', index: modifyIndex });
      expect(await write(a, term, '2', 1)).toMatchObject({ kind: 'conflict' });
      expect(await write(b, term, '3', modifyIndex)).toEqual({ kind: 'stale' });

      // Its session ends without its knowledge and another master leads. It believes itself certain, and Consul
      // refuses its writes.
      blind.isBlind = true;
      await client.destroySession((await leaderEntry()).session);
      const next = await leads(b);
      expect(next).toBeGreaterThan(term);
      expect(a.election.term).toBe(term);
      expect(await write(a, term, 'late', modifyIndex)).toEqual({ kind: 'stale' });
      expect(a.election.term).toBe(undefined);
      expect(a.told).toEqual([`lead ${term}`, 'follow']);
      expect((await client.get(key))?.value).toBe('1');
      expect(await write(b, next, '4', modifyIndex)).toMatchObject({ kind: 'done' });
      blind.close();
    });

    test('starts a new term when the lock was taken away, even if the same master gets it back', async () => {
      const blind = new BlindClient({ address: consul.address });
      const a = await newMaster('a', { client: blind });
      const term = await leads(a);
      const { session } = await leaderEntry();
      const { leader } = keysOf(mesh);
      blind.isBlind = true;
      await client.put(leader, '{"name":"a"}', { release: session });
      await client.put(leader, '{"name":"a"}', { acquire: session });
      // The same session holds it; only the index differs.
      expect(a.election.term).toBe(term);
      const late = [{ verb: 'cas', key: 'late', value: 'x', index: 0 }] as const;
      expect(await a.election.write(term, late)).toEqual({ kind: 'stale' });
      expect(await client.get('late')).toBe(undefined);
      blind.close();
    });

    test('is read again when the watch misses it: a change between two replies is never shown', async () => {
      const blind = new BlindClient({ address: consul.address });
      blind.hidden = () => keysOf(mesh).leader;
      const a = await newMaster('a', { client: blind });
      const term = await until('a to lead', () => a.election.term);
      await until('it to have looked itself', () => a.election.leader);
      expect(a.election.leader).toEqual({ name: 'a', term });
      blind.close();
    });

    test("has a later term also when Consul's indexes start over", async () => {
      const a = await newMaster('a');
      let term = await leads(a);
      const { leader, assignments } = keysOf(mesh);
      for (let round = 0; round < 2; round++) {
        await client.delete(leader);
        const next = await until('a new term', () => (a.election.term === term ? undefined : a.election.term));
        expect(next).toBeGreaterThan(term);
        term = next;
      }
      await a.election.close();
      // A master without knowledge finds an assignment of a far later term.
      await client.put(`${assignments}m1`, JSON.stringify({ term: 100, leader: 'x', deployments: [] }));
      await client.delete(leader);
      const b = await newMaster('b');
      expect(await leads(b)).toBe(101);
      expect(b.told).toEqual(['lead 101']);
    });

    test('is repeated after Consul was killed, and after it came back without its data', async () => {
      const a = await newMaster('a');
      const b = await newMaster('b', { rank: 2 });
      await listed(2);
      let term = await leads(a);
      for (const isEmpty of [false, true]) {
        await consul.kill();
        await consul.start({ isEmpty });
        await until('one to lead for certain, and both to see it', async () => {
          const entry = await client.get(keysOf(mesh).leader).catch(() => undefined);
          const [leader] = [a, b].filter(({ election }) => election.term !== undefined);
          return (
            leader !== undefined &&
            entry?.lockIndex === leader.election.term &&
            [a, b].every(({ election }) => election.leader?.term === entry?.lockIndex) &&
            [a, b].every(({ election }) => election.masters().length === 2)
          );
        });
        const next = (a.election.term ?? b.election.term)!;
        // The embedded agent keeps sessions over a restart, so it may be the same term. Without data it is a later
        // one.
        if (isEmpty) expect(next).toBeGreaterThan(term);
        else expect(next).toBeGreaterThanOrEqual(term);
        term = next;
      }
    }, 90_000);

    test('begins when Consul becomes available, and ends at once when it is away', async () => {
      const a = await newMaster('a');
      await leads(a);
      await consul.kill();
      await a.election.close();
      await a.election.close();
      expect(a.election.term).toBe(undefined);
      // As when a process has ended: the check of its port tells Consul.
      await a.listener.shut();
      const listener = await new CheckedPort().open();
      const late = new Election({
        client,
        mesh,
        name: 'late',
        rank: 1,
        machine: '',
        stats: { host: '127.0.0.1', port: listener.port },
        events: new EventLog('late'),
      });
      masters.push({ name: 'late', election: late, listener, told: [], events: new EventLog('late') });
      const started = late.start();
      await consul.start();
      await started;
      await until('it to lead', () => late.term);
    });
  });
}
