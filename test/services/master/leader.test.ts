// Assignments of a leader, on the embedded and the real Consul. Fake managers, whose records the test writes under
// their own sessions, join, die, return and report live copies. Consul loses its data, leaders change, and documents
// are invalid.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { systemClock } from '../../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import type { LeaderOptions } from '../../../services/master/leader.ts';
import { Election, Leader } from '../../../services/master/mod.ts';
import {
  ASSIGNMENT,
  EventLog,
  keysOf,
  readRecord,
  type AssignmentRecord,
  type Deployment,
  type Keys,
  type ManagerRecord,
} from '../../../services/mesh/mod.ts';
import { deploymentFor } from '../../kit/mesh/deployments.ts';
import { until } from '../../kit/tools/wait.ts';

const A = 'A@1.0.0';
const B = 'B@1.0.0';

for (const kind of CONSUL_KINDS) {
  describe(`Leader on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let listener: Server;
    let directory: string;
    let meshes = 0;
    let probes = 0;
    let mesh = '';
    let keys: Keys;
    let ends: (() => Promise<unknown>)[] = [];

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address, timeoutMs: 2_000 });
      directory = mkdtempSync(path.join(tmpdir(), 'katamari-masters-'));
      listener = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    });
    beforeEach(() => {
      mesh = `mesh-${++meshes}`;
      keys = keysOf(mesh);
    });
    afterEach(async () => {
      await Promise.all(ends.map((end) => end()));
      ends = [];
    });
    afterAll(async () => {
      client?.close();
      await new Promise((resolve) => listener.close(resolve));
      await consul?.close();
      rmSync(directory, { recursive: true, force: true });
    });

    interface Master {
      readonly election: Election;
      readonly leader: Leader;
      readonly events: EventLog;
    }
    const startMaster = async (name = 'master', options: Partial<LeaderOptions> = {}): Promise<Master> => {
      const events = new EventLog(name);
      const { port } = listener.address() as { port: number };
      const stats = { host: '127.0.0.1', port };
      const election = new Election({ client, mesh, name, rank: 1, machine: 'x', stats, events });
      const dataDir = path.join(directory, mesh, name);
      const leader = new Leader({
        client,
        mesh,
        name,
        election,
        events,
        dataDir,
        graceMs: 100,
        settleMs: 100,
        othersMs: 0,
        ...options,
      });
      ends.push(async () => {
        await leader.close();
        await election.close();
      });
      await election.start();
      leader.start();
      return { election, leader, events };
    };

    /** A fake manager. It runs what it is assigned, as far as the test allows. */
    class Manager {
      readonly name: string;
      readonly #given: Partial<ManagerRecord>;
      #session = '';
      alive: Record<string, number> = {};

      constructor(name: string, given: Partial<ManagerRecord> = {}) {
        this.name = name;
        this.#given = given;
      }
      /** Joins or returns: writes its entry under a session. */
      async come(): Promise<this> {
        // A restarted Consul may have kept the previous session.
        if (this.#session !== '') await this.die();
        const checks = ['serfHealth'];
        const request = { name: this.name, ttlMs: 600_000, lockDelayMs: 0, behavior: 'delete', checks } as const;
        this.#session = await client.createSession(request);
        return this.say();
      }
      /** Reports how many copies are alive. */
      async say(alive: Record<string, number> = this.alive): Promise<this> {
        this.alive = alive;
        const pools = Object.entries(alive).map(([id, count]) => {
          const [service = '', version = ''] = id.split('@');
          return { id, service, version, roles: [], tags: [], more: {}, interfaceId: 'i', alive: count };
        });
        const record: ManagerRecord = {
          address: `${this.name}:1`,
          machine: `machine-of-${this.name}`,
          capacity: 1,
          starting: [],
          isDraining: false,
          stats: '',
          pools,
          ...this.#given,
        };
        const value = JSON.stringify(record);
        expect(await client.put(`${keys.managers}${this.name}`, value, { acquire: this.#session })).toBe(true);
        return this;
      }
      async order(): Promise<AssignmentRecord | undefined> {
        const entry = await client.get(`${keys.assignments}${this.name}`);
        const record = entry === undefined ? undefined : readRecord(ASSIGNMENT, entry.value);
        if (record instanceof Error) throw record;
        return record;
      }
      /** Its current assignment. */
      async counts(): Promise<Record<string, number> | undefined> {
        const order = await this.order();
        return (
          order && Object.fromEntries(order.deployments.map((one) => [`${one.service}@${one.version}`, one.count]))
        );
      }
      /** Reports every assigned copy as alive. */
      async obey(): Promise<void> {
        await this.say((await this.counts()) ?? {});
      }
      async die(): Promise<void> {
        await client.destroySession(this.#session);
      }
    }
    const threeManagers = async (): Promise<[Manager, Manager, Manager]> => [
      await new Manager('m1').come(),
      await new Manager('m2').come(),
      await new Manager('m3').come(),
    ];
    const deploy = async (service: string, count: number, more: Partial<Deployment> = {}): Promise<void> => {
      const deployment = deploymentFor({ service, count, ...more });
      await client.put(`${keys.deployments}${service}/${deployment.version}`, JSON.stringify(deployment));
    };
    const ordered = async (managers: readonly Manager[]): Promise<unknown[]> =>
      Promise.all(managers.map((manager) => manager.counts()));
    const toBeOrdered = async (managers: readonly Manager[], what: readonly unknown[]): Promise<void> => {
      let last: unknown[] = [];
      await until(
        `${JSON.stringify(what)} to be ordered`,
        async () => {
          last = await ordered(managers);
          return JSON.stringify(last) === JSON.stringify(what);
        },
        15_000,
      ).catch((error: unknown) => {
        expect(last).toEqual(what);
        throw error;
      });
    };
    const texts = ({ events }: Master, of: string): string[] =>
      events.after(0).flatMap(({ kind: its, subject, text }) => (its === of ? [`${subject}: ${text}`] : []));
    /** The master's files by key. */
    const remembered = (name = 'master'): Record<string, string> => {
      const file = path.join(directory, mesh, name, 'wanted.json');
      if (!existsSync(file)) return {};
      return (JSON.parse(readFileSync(file, 'utf8')) as { documents: Record<string, string> }).documents;
    };
    const settled = async (): Promise<void> => {
      const manager = await new Manager(`probe-${++probes}`, { isDraining: true }).come();
      await until('the probe to have an order', () => manager.order());
      await manager.die();
      await client.delete(`${keys.assignments}${manager.name}`);
    };

    test('spreads copies over managers in its term, and reports the assignments', async () => {
      const managers = await threeManagers();
      await deploy('A', 4);
      await deploy('B', 2, { env: { X: 'y' }, version: '1.0.0' });
      const master = await startMaster();
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 1, [B]: 1 }, { [A]: 1, [B]: 1 }]);
      const order = await managers[1].order();
      expect(order).toMatchObject({ term: master.election.term, leader: 'master' });
      expect(order?.deployments[1]).toEqual(deploymentFor({ service: 'B', count: 1, env: { X: 'y' } }));
      expect(texts(master, 'assigned')).toEqual([`m1: 2 x ${A}`, `m2: 1 x ${A}, 1 x ${B}`, `m3: 1 x ${A}, 1 x ${B}`]);
      expect(master.leader.pools()).toEqual([]);
      await managers[0].obey();
      await until('its pools to be known', () => master.leader.pools()[0]?.alive === 2);
    });

    test('deletes the list of shards that an interrupted add has left, later', async () => {
      let aheadMs = 0;
      const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs };
      const store = new IndexStore({ client, mesh, events: new EventLog('admin') });
      await store.putManifest({ shards: [{ name: 'lost', bytes: 1, digest: 'd' }] });
      const kept = await store.add(
        {
          name: 'wiki',
          version: '1.0.0',
          source: 'file:///srv/wiki',
          contentService: 'Words',
          contentRange: '^1',
          replicas: 1,
          promoteAtReplicas: 1,
          by: 'admin',
          atMs: 0,
          readyAtMs: 0,
          promotedAtMs: 0,
        },
        { shards: [{ name: 'a', bytes: 1, digest: 'd' }] },
      );
      await startMaster('master', { clock });
      await until(
        'both to be known',
        () => Object.keys(remembered()).filter((key) => key.startsWith(keys.manifests)).length === 2,
      );
      let pokes = 0;
      await until('one to be deleted', async () => {
        // An hour later, the next change makes the leader look.
        aheadMs += 3_600_001;
        await deploy('A', ++pokes);
        return (await client.list(keys.manifests)).entries.length < 2;
      });
      expect((await client.list(keys.manifests)).entries.map(({ key }) => key)).toEqual([
        keys.manifests + kept.manifest,
      ]);
    });

    test('applies scaling, a new deployment and a removed one, and writes nothing else', async () => {
      const managers = await threeManagers();
      await deploy('A', 3);
      await startMaster();
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      await deploy('A', 6);
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 2 }, { [A]: 2 }]);
      for (const manager of managers) await manager.obey();
      await deploy('A', 1);
      await toBeOrdered(managers, [{ [A]: 1 }, {}, {}]);
      await deploy('B', 1);
      await toBeOrdered(managers, [{ [A]: 1 }, { [B]: 1 }, {}]);
      // A change of another field than the count reaches the managers that run it.
      const indexOf = async (manager: Manager): Promise<number | undefined> =>
        (await client.get(`${keys.assignments}${manager.name}`))?.modifyIndex;
      const before = await Promise.all(managers.map(indexOf));
      await deploy('B', 1, { command: ['other'] });
      await until('it to be told', async () => (await managers[1].order())?.deployments[0]?.command[0] === 'other');
      // The others have no changes, and nothing is written when they report the desired state.
      for (const manager of managers) await manager.obey();
      await settled();
      expect([await indexOf(managers[0]), await indexOf(managers[2])]).toEqual([before[0], before[2]]);
      await client.delete(`${keys.deployments}A/1.0.0`);
      await toBeOrdered(managers, [{}, { [B]: 1 }, {}]);
      await client.delete(`${keys.deployments}B/1.0.0`);
      await toBeOrdered(managers, [{}, {}, {}]);
    });

    test('gives the copies of a dead manager to the others, and its share back when it returns and runs them', async () => {
      const managers = await threeManagers();
      const [m1, m2, m3] = managers;
      await deploy('A', 6);
      await startMaster();
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 2 }, { [A]: 2 }]);
      for (const manager of managers) await manager.obey();
      await m3.die();
      // Its own assignment stays in Consul: it applies where no leader is reachable.
      await toBeOrdered(managers, [{ [A]: 3 }, { [A]: 3 }, { [A]: 2 }]);
      for (const manager of [m1, m2]) await manager.obey();
      m3.alive = {};
      await m3.come();
      await settled();
      // No copy ends elsewhere before the copies assigned to it are alive.
      expect(await ordered(managers)).toEqual([{ [A]: 3 }, { [A]: 3 }, { [A]: 2 }]);
      await m3.say({ [A]: 1 });
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 3 }, { [A]: 2 }]);
      await m1.obey();
      await m3.say({ [A]: 2 });
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 2 }, { [A]: 2 }]);
    });

    test('moves every copy off a drained manager without ending one too early, and back later', async () => {
      const managers = await threeManagers();
      const [m1, m2, m3] = managers;
      await deploy('A', 3);
      await startMaster();
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      for (const manager of managers) await manager.obey();
      await client.put(`${keys.drained}m1`, JSON.stringify({ since: 'now' }));
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 2 }, { [A]: 1 }]);
      await m2.obey();
      await toBeOrdered(managers, [{}, { [A]: 2 }, { [A]: 1 }]);
      await m1.obey();
      await client.delete(`${keys.drained}m1`);
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 2 }, { [A]: 1 }]);
      await m1.obey();
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      expect(await m3.counts()).toEqual({ [A]: 1 });
    });

    test('reports once that no manager can run the deployments, and continues when one joins', async () => {
      await deploy('A', 2);
      const master = await startMaster();
      await until('it to be said', () => texts(master, 'assigned').length > 0);
      const manager = await new Manager('m1').come();
      await toBeOrdered([manager], [{ [A]: 2 }]);
      await client.put(`${keys.drained}m1`, '{"since":""}');
      await toBeOrdered([manager], [{}]);
      // Consul shows an order a moment before the leader has the response to its write.
      await until('the last event', () => texts(master, 'assigned').length >= 4);
      expect(texts(master, 'assigned')).toEqual([
        `: Cannot assign 2 x ${A}: no manager is running; start one (katamari manager)`,
        `m1: 2 x ${A}`,
        `: Cannot assign 2 x ${A}: all managers (1) are drained; undrain one (katamari undrain)`,
        'm1: nothing',
      ]);
    });

    test('waits briefly for a missing manager, and moves nothing when it returns in time', async () => {
      const managers = await threeManagers();
      await deploy('A', 3);
      const master = await startMaster('master', { graceMs: 60_000 });
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      for (const manager of managers) await manager.obey();
      await managers[2].die();
      await settled();
      await managers[2].come();
      await settled();
      expect(await ordered(managers)).toEqual([{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      expect(texts(master, 'assigned').filter((text) => text.startsWith('m'))).toHaveLength(3);
    });

    test('hands over: the next leader puts its term on the assignments and changes nothing else; the previous one writes no more', async () => {
      const managers = await threeManagers();
      await deploy('A', 3);
      const one = await startMaster('one');
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      const first = one.election.term;
      const two = await startMaster('two');
      await until('two to stand', () => two.election.masters().length === 2);
      await one.election.resign();
      await until('the orders to be of the new term', async () => {
        const orders = await Promise.all(managers.map((manager) => manager.order()));
        return orders.every((order) => order?.leader === 'two' && order.term === two.election.term);
      });
      expect(two.election.term).toBeGreaterThan(first ?? 0);
      expect(await ordered(managers)).toEqual([{ [A]: 1 }, { [A]: 1 }, { [A]: 1 }]);
      expect(texts(two, 'assigned')).toEqual([]);
      const told = texts(one, 'assigned').length;
      await deploy('A', 6);
      await toBeOrdered(managers, [{ [A]: 2 }, { [A]: 2 }, { [A]: 2 }]);
      expect(texts(one, 'assigned')).toHaveLength(told);
    });

    test('rewrites a damaged or deleted assignment', async () => {
      const manager = await new Manager('m1').come();
      await deploy('A', 2);
      const master = await startMaster();
      await toBeOrdered([manager], [{ [A]: 2 }]);
      await client.put(`${keys.assignments}m1`, 'nonsense');
      await until('it to be whole', async () => (await client.get(`${keys.assignments}m1`))?.value !== 'nonsense');
      expect(await manager.counts()).toEqual({ [A]: 2 });
      await client.delete(`${keys.assignments}m1`);
      await toBeOrdered([manager], [{ [A]: 2 }]);
      expect(texts(master, 'assigned').filter((text) => text.includes('is ignored'))).toHaveLength(1);
    });

    test('ends nothing because of an invalid document, and reports it', async () => {
      const manager = await new Manager('m1').come();
      await deploy('A', 2);
      const master = await startMaster();
      await toBeOrdered([manager], [{ [A]: 2 }]);
      await manager.obey();
      await client.put(`${keys.deployments}A/1.0.0`, '{"count": "many"}');
      await client.put(`${keys.deployments}C/1.0.0`, JSON.stringify(deploymentFor({ service: 'Other' })));
      await deploy('B', 1);
      await toBeOrdered([manager], [{ [A]: 2, [B]: 1 }]);
      expect(texts(master, 'deployment_changed')).toEqual([
        expect.stringContaining('A/1.0.0: the value of'),
        expect.stringMatching(/^C\/1\.0\.0: .*its content is for Other@1\.0\.0/),
      ]);
      // A leader that never saw a valid document leaves the assignments as they are.
      await master.leader.close();
      await master.election.close();
      await startMaster('next');
      await until('it to lead', async () => (await manager.order())?.leader === 'next');
      expect(await manager.counts()).toEqual({ [A]: 2, [B]: 1 });
      await deploy('A', 1);
      await toBeOrdered([manager], [{ [A]: 1, [B]: 1 }]);
    });

    test('reports an assignment that is too large for Consul, and writes the others', async () => {
      const [m1, m2] = [await new Manager('m1').come(), await new Manager('m2').come()];
      await deploy('A', 1, { env: { BIG: 'x'.repeat(60_000), BIG2: 'x'.repeat(60_000) } });
      const master = await startMaster();
      await toBeOrdered([m1, m2], [{ [A]: 1 }, {}]);
      // Each deployment is small enough, but all deployments of one manager together are not.
      for (const version of ['2.0.0', '3.0.0', '4.0.0', '5.0.0', '6.0.0', '7.0.0', '8.0.0']) {
        await deploy('A', 1, { version, env: { BIG: 'x'.repeat(60_000), BIG2: 'x'.repeat(60_000) } });
      }
      await until('it to be said', () => texts(master, 'order_refused').length > 0);
      expect(texts(master, 'order_refused')[0]).toMatch(
        /^m1: The order for m1 has \d+ bytes in \d deployments, limit is 390000/,
      );
      // The largest assignment that fits is written by the transaction.
      for (const version of ['4.0.0', '5.0.0', '6.0.0', '7.0.0', '8.0.0'])
        await client.delete(`${keys.deployments}A/${version}`);
      await deploy('B', 2);
      await until('both to run B', async () =>
        (await ordered([m1, m2])).every((counts) => JSON.stringify(counts).includes(B)),
      );
    });

    test('continues after Consul was killed, and writes the same assignments again after it came back without its data', async () => {
      const [m2, m3] = [await new Manager('m2').come(), await new Manager('m3').come()];
      await deploy('A', 4);
      const master = await startMaster('master', { settleMs: 60_000 });
      await toBeOrdered([m2, m3], [{ [A]: 2 }, { [A]: 2 }]);
      await m2.obey();
      await m3.obey();
      const m1 = await new Manager('m1').come();
      const managers = [m1, m2, m3];
      await until('m1 to have an order', () => m1.order());
      await m1.obey();
      // Computed from scratch, m1 would have two.
      await toBeOrdered(managers, [{ [A]: 1 }, { [A]: 2 }, { [A]: 1 }]);
      await deploy('B', 1);
      await toBeOrdered(managers, [{ [A]: 1, [B]: 1 }, { [A]: 2 }, { [A]: 1 }]);
      for (const manager of managers) await manager.obey();
      const before = await ordered(managers);
      for (const isEmpty of [false, true]) {
        await settled();
        await until('A and B to be remembered', () => Object.keys(remembered()).length === 2);
        await consul.kill();
        await consul.start({ isEmpty });
        // They return one by one, and run the same copies as before.
        for (const manager of [m3, m1, m2]) {
          await until('it to be back', () => manager.come().catch(() => undefined));
        }
        await until('orders of the term', async () => {
          const orders = await Promise.all(managers.map((manager) => manager.order()));
          const { term } = master.election;
          return term !== undefined && orders.every((order) => order?.term === term);
        });
        expect(await ordered(managers)).toEqual(before);
        expect(texts(master, 'deployment_changed')).toEqual(
          isEmpty ? [A, B].map((id) => `${id}: restored from backup: Consul lost its data`) : [],
        );
      }
    }, 120_000);

    test('restores the desired state to a Consul that lost its data, although every master was restarted meanwhile', async () => {
      const emptied = async (): Promise<void> => {
        await consul.kill();
        await consul.start({ isEmpty: true });
        await until('the manager to be back', () => manager.come().catch(() => undefined));
      };
      const manager = await new Manager('m1').come();
      const route = '{"weights":{"1.0.0":3}}';
      await deploy('A', 1);
      await deploy('B', 1);
      await client.put(`${keys.routes}A`, route);
      await client.put(keys.settings, '{"timeoutMs":5000}');
      await client.put(`${keys.drained}m9`, '{}');
      let master = await startMaster();
      await toBeOrdered([manager], [{ [A]: 1, [B]: 1 }]);
      await client.delete(`${keys.deployments}B/1.0.0`);
      await until('it to be remembered', () => Object.keys(remembered()).length === 4);
      expect(Object.keys(remembered())).toContain(`${keys.deployments}A/1.0.0`);
      await master.leader.close();
      await master.election.close();

      await emptied();
      master = await startMaster();
      await toBeOrdered([manager], [{ [A]: 1 }]);
      expect((await client.get(`${keys.routes}A`))?.value).toBe(route);
      expect((await client.get(keys.settings))?.value).toBe('{"timeoutMs":5000}');
      expect(await client.get(`${keys.drained}m9`)).toBeDefined();
      expect(texts(master, 'deployment_changed').sort()).toEqual(
        ['A@1.0.0', 'drained/m9', 'routes/A', 'settings'].map(
          (what) => `${what}: restored from backup: Consul lost its data`,
        ),
      );

      // A removed deployment stays removed, also after the next loss.
      await client.delete(keys.deployments, { isTree: true });
      await toBeOrdered([manager], [{}]);
      await until(
        'it to be forgotten',
        () => !Object.keys(remembered()).some((key) => key.startsWith(keys.deployments)),
      );
      expect(Object.keys(remembered()).length).toBe(3);
      await master.leader.close();
      await master.election.close();
      await emptied();
      await startMaster();
      await deploy('C', 1);
      await toBeOrdered([manager], [{ 'C@1.0.0': 1 }]);
      expect((await client.list(keys.deployments)).entries).toHaveLength(1);
    });

    test('restores the newest backup of all masters: that of one that was down is old', async () => {
      const options = { othersMs: 3_000 };
      const end = async ({ leader, election }: Master): Promise<void> => {
        await leader.close();
        await election.close();
      };
      // By its name, it leads first.
      let first = await startMaster('a', options);
      let second = await startMaster('b', options);
      await deploy('A', 1);
      const know = (name: string, ...services: readonly string[]): Promise<unknown> =>
        until(`${name} to remember ${services.join(' and ')}`, () => {
          const documents = Object.keys(remembered(name)).filter((key) => key.startsWith(keys.deployments));
          return documents.join() === services.map((service) => `${keys.deployments}${service}/1.0.0`).join();
        });
      await know('a', 'A');
      await end(first);
      await deploy('B', 1);
      await client.delete(`${keys.deployments}A/1.0.0`);
      await know('b', 'B');
      await end(second);
      await consul.kill();
      await consul.start({ isEmpty: true });
      first = await startMaster('a', options);
      await until('a to lead', () => first.election.term !== undefined);
      second = await startMaster('b', options);
      await until('the deployments to be restored', async () => (await client.get(keys.begun)) !== undefined);
      expect((await client.list(keys.deployments)).entries.map(({ key }) => key)).toEqual([
        `${keys.deployments}B/1.0.0`,
      ]);
      expect(texts(first, 'consul_lost')).toContain('backup: that of b is newer: it leads and restores');
      expect(texts(second, 'deployment_changed')).toEqual([`${B}: restored from backup: Consul lost its data`]);
      await know('a', 'B');
      // Then the order of the masters counts again.
      await until('a to lead', () => first.election.term !== undefined);
      expect(first.election.masters().every(({ backup }) => backup === undefined)).toBe(true);
    }, 120_000);

    test('does not restore a deployment that was removed just after an outage', async () => {
      const manager = await new Manager('m1').come();
      await deploy('A', 1);
      const master = await startMaster();
      await toBeOrdered([manager], [{ [A]: 1 }]);
      await consul.kill();
      await consul.start();
      await until('it to be back', () => manager.come().catch(() => undefined));
      // The leader is through the outage and active.
      await deploy('B', 1);
      await toBeOrdered([manager], [{ [A]: 1, [B]: 1 }]);
      await client.delete(keys.deployments, { isTree: true });
      await toBeOrdered([manager], [{}]);
      // Any further write would have happened by now.
      await deploy('C', 1);
      await toBeOrdered([manager], [{ 'C@1.0.0': 1 }]);
      expect((await client.list(keys.deployments)).entries).toHaveLength(1);
      expect(texts(master, 'deployment_changed')).toEqual([]);
    });
  });
}
