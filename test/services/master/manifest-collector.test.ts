// The leader deletes lists of shards that no index version names, an hour after it has seen them first.

import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { ManifestCollector } from '../../../services/master/manifest-collector.ts';
import { ManifestStore } from '../../../services/master/manifest-store.ts';
import { Election } from '../../../services/master/mod.ts';
import { EventLog, manifestHash } from '../../../services/mesh/mod.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { until } from '../../kit/tools/wait.ts';

const HOUR_MS = 3_600_000;
const TEXT = '{"shards":[{"name":"a","bytes":1,"digest":"d"}]}';
const HASH = manifestHash(TEXT);
const NONE: ReadonlySet<string> = new Set();

for (const kind of CONSUL_KINDS) {
  describe(`ManifestCollector on the ${kind} Consul`, () => {
    const { signal } = new AbortController();
    let consul: TestConsul;
    let client: ConsulClient;
    let port: Server;
    let election: Election;
    let events: EventLog;
    let clock: ManualClock;
    let manifests: ManifestStore;
    let collector: ManifestCollector;
    let due = 0;
    let meshes = 0;
    let term = 0;

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
      port = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => port.listen(0, '127.0.0.1', resolve));
    });
    afterAll(async () => {
      client.close();
      await new Promise((resolve) => port.close(resolve));
      await consul.close();
    });
    beforeEach(async () => {
      const mesh = `mesh-${++meshes}`;
      const stats = { host: '127.0.0.1', port: (port.address() as { port: number }).port };
      events = new EventLog('master');
      election = new Election({ client, mesh, name: 'master', rank: 1, machine: 'x', stats, events });
      await election.start();
      term = await until('a leader', () => election.term);
      clock = new ManualClock();
      manifests = new ManifestStore({ client, mesh });
      due = 0;
      collector = new ManifestCollector({ manifests, election, events, clock, onDue: () => due++ });
      await manifests.ensure(HASH, TEXT);
    });
    afterEach(async () => {
      collector.close();
      await election.close();
    });

    const collect = (used = NONE, inTerm = term): Promise<'done' | 'stale'> =>
      collector.collect(inTerm, { stored: [HASH, 'notes'], used }, signal);
    const isThere = async (): Promise<boolean> => (await client.get(manifests.keyOf(HASH))) !== undefined;
    const deleted = (): number => events.after(0).filter(({ text }) => text.includes('unused list of shards')).length;

    test('deletes a manifest that has been without a record for an hour, and asks to be called then', async () => {
      const { requests } = client.stats();
      await collect();
      clock.advance(HOUR_MS - 1);
      await collect();
      expect(client.stats().requests).toBe(requests);
      expect([due, await isThere()]).toEqual([0, true]);
      clock.advance(1);
      expect(due).toBe(1);
      expect(await collect()).toBe('done');
      expect([await isThere(), deleted()]).toEqual([false, 1]);
    });

    test('counts the hour from the time at which the last record went', async () => {
      await collect();
      clock.advance(HOUR_MS / 2);
      await collect(new Set([HASH]));
      clock.advance(HOUR_MS);
      await collect(new Set([HASH]));
      expect(clock.waiting).toBe(0);
      await collect();
      clock.advance(HOUR_MS - 1);
      await collect();
      expect(await isThere()).toBe(true);
      clock.advance(1);
      await collect();
      expect(await isThere()).toBe(false);
    });

    test('starts anew in another term', async () => {
      await collect(NONE, term - 1);
      clock.advance(HOUR_MS);
      await collect();
      expect(await isThere()).toBe(true);
    });

    test('deletes nothing when another process leads', async () => {
      await collect(NONE, term + 1);
      clock.advance(HOUR_MS);
      expect(await collect(NONE, term + 1)).toBe('stale');
      expect([await isThere(), deleted()]).toEqual([true, 0]);
    });
  });
}
