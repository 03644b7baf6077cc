// Rollouts that a leader carries out, on the embedded and the real Consul, with counts that the test makes. Leaders are
// replaced in each step, and Consul fails before or after each write.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { LogHistogram } from '../../../core/rpc/mod.ts';
import { consulClient, ConsulError, type ConsulClient } from '../../../services/consul/mod.ts';
import { DeploymentStore, Election, Leader, RolloutStore } from '../../../services/master/mod.ts';
import {
  EventLog,
  keysOf,
  routeIn,
  RouteStore,
  type ManagerRecord,
  type ObservedVersions,
  type Rollout,
  type Route,
  type VersionCount,
} from '../../../services/mesh/mod.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { deploymentFor } from '../../kit/mesh/deployments.ts';
import { until } from '../../kit/tools/wait.ts';
import { aRollout } from './a-rollout.ts';

const PLAN = { steps: [10, 50, 100], holdMs: 300, keepMs: 0, startMs: 20_000 } as const;
const NOT_UP = { to: { desired: undefined, alive: 0, failure: '' }, verdict: undefined };

for (const kind of CONSUL_KINDS) {
  describe(`A rollout on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let listener: Server;
    let directory: string;
    let meshes = 0;
    let mesh = '';
    let ends: (() => Promise<unknown>)[] = [];
    /** Part of the calls of the new version that fail. */
    let errorRate = 0;
    let copiesMax = 100;

    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address, timeoutMs: 2_000 });
      directory = mkdtempSync(path.join(tmpdir(), 'katamari-rollouts-'));
      listener = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    });
    beforeEach(() => {
      mesh = `mesh-${++meshes}`;
      errorRate = 0;
      copiesMax = 100;
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

    /** What the routers would have counted since the last change of the route. */
    const observe = async (): Promise<ObservedVersions> => {
      const route = await routeNow();
      const count = (version: string, calls: number, failures: number): VersionCount => ({
        serviceName: 'Search',
        version,
        method: 'find',
        splitIndex: route?.splitIndex ?? 0,
        sinceMs: 0,
        calls,
        exceptions: 0,
        failures,
        timeouts: 0,
        refusals: 0,
        cancelled: 0,
        durations: new LogHistogram(),
        queueing: new LogHistogram(),
      });
      const counts = [count('1.9.0', 10_000, 0), count('2.0.0', 1_000, 1_000 * errorRate)];
      return {
        counts,
        outcomes: [],
        mirrors: { counts: [], paths: [], differences: [], missing: [] },
        missing: [],
      };
    };

    const startMaster = async (name: string, with_: ConsulClient = client): Promise<{ close(): Promise<void> }> => {
      const events = new EventLog(name);
      const { port } = listener.address() as { port: number };
      const election = new Election({
        client: with_,
        mesh,
        name,
        rank: 1,
        machine: 'x',
        events,
        stats: { host: '127.0.0.1', port },
      });
      const leader = new Leader({
        client: with_,
        mesh,
        name,
        election,
        events,
        observe,
        dataDir: path.join(directory, mesh, name),
        graceMs: 100,
        settleMs: 100,
        othersMs: 0,
      });
      let closing: Promise<void> | undefined;
      const close = (): Promise<void> => (closing ??= leader.close().then(() => election.close()));
      ends.push(close);
      await election.start();
      leader.start();
      return { close };
    };

    /** A manager that runs what is deployed, as far as `copiesMax` allows. */
    const startManager = async (): Promise<void> => {
      const request = {
        name: 'm',
        ttlMs: 600_000,
        lockDelayMs: 0,
        behavior: 'delete',
        checks: ['serfHealth'],
      } as const;
      const session = await client.createSession(request);
      const store = new DeploymentStore({ client, mesh, events: new EventLog('m') });
      let said = '';
      const say = async (): Promise<void> => {
        const pools = (await store.list()).map(({ service, version, count }) => ({
          id: `${service}@${version}`,
          service,
          version,
          roles: [],
          tags: [],
          more: {},
          interfaceId: 'i',
          alive: version === '2.0.0' ? Math.min(count, copiesMax) : count,
        }));
        const place = { address: 'm:1', machine: 'm', capacity: 1, isDraining: false, stats: '' };
        const record: ManagerRecord = { ...place, starting: [], pools };
        const text = JSON.stringify(record);
        if (text === said) return;
        said = text;
        await client.put(`${keysOf(mesh).managers}m`, text, { acquire: session });
      };
      await say();
      let isOver = false;
      const running = (async (): Promise<void> => {
        while (!isOver) {
          await say();
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      })();
      ends.push(() => {
        isOver = true;
        return running;
      });
    };

    const begin = async (given: Partial<Rollout> = {}): Promise<RolloutStore> => {
      const events = new EventLog('admin');
      const deployments = new DeploymentStore({ client, mesh, events });
      await deployments.put(deploymentFor({ service: 'Search', version: '1.9.0', count: 4 }));
      await deployments.put(deploymentFor({ service: 'Search', version: '2.0.0', count: 1 }));
      await new RouteStore(client, mesh).change('Search', 'ada', () => ({
        weights: { '1.9.0': 100 },
        sticky: 'args.q',
      }));
      const copiesBefore = { from: 4, to: 1 };
      const route = (await routeNow()) as Route;
      const startedAtMs = Date.now();
      const store = new RolloutStore({ client, mesh, events });
      await store.start(
        aRollout({ ...PLAN, copiesBefore, routeBefore: route, startedAtMs, sinceMs: startedAtMs, ...given }),
      );
      return store;
    };
    const routeNow = async (): Promise<Route | undefined> => routeIn(await client.get(`${keysOf(mesh).routes}Search`));
    const rolloutOf = async (store: RolloutStore): Promise<Rollout> => (await store.list())[0] as Rollout;
    const copiesOf = async (): Promise<Record<string, number>> =>
      Object.fromEntries(
        (await new DeploymentStore({ client, mesh, events: new EventLog('x') }).list()).map((one) => [
          one.version,
          one.count,
        ]),
      );
    const untilSettled = (store: RolloutStore): Promise<unknown> =>
      until('the end of the rollout', async () => (await store.list())[0]?.isSettled === true, 60_000);
    const weightsOf = async (): Promise<unknown[]> =>
      (await new RouteStore(client, mesh).history('Search')).map(({ route }) => route?.weights).toReversed();

    const WEIGHTS = [
      { '1.9.0': 100 },
      { '1.9.0': 90, '2.0.0': 10 },
      { '1.9.0': 50, '2.0.0': 50 },
      { '1.9.0': 0, '2.0.0': 100 },
    ];

    test('goes through its steps, each a change of the route by the leader, and the rest of the route stays', async () => {
      await startManager();
      const store = await begin();
      await startMaster('one');
      await untilSettled(store);
      expect(await rolloutOf(store)).toMatchObject({ state: 'done', share: 100, calls: 3_000, badCalls: 0 });
      expect(await weightsOf()).toEqual(WEIGHTS);
      expect(await routeNow()).toMatchObject({ sticky: 'args.q', by: 'leader', index: 4, splitIndex: 4 });
      expect(await copiesOf()).toEqual({ '1.9.0': 0, '2.0.0': 4 });
    });

    test('is reverted by one change of the route when a guard is violated', async () => {
      await startManager();
      const store = await begin({ holdMs: 60_000 });
      await startMaster('one');
      await until('the first share', async () => (await rolloutOf(store)).share === 10, 30_000);
      errorRate = 0.03;
      await untilSettled(store);
      const rollout = await rolloutOf(store);
      expect(rollout).toMatchObject({ state: 'reverted', calls: 1_000, badCalls: 30 });
      expect(rollout.reason).toMatch(/^errors \+0\.5pt: 2\.0\.0 fails more often: 3\.\d* % against 0\.\d* %/);
      expect(await weightsOf()).toEqual([{ '1.9.0': 100 }, { '1.9.0': 90, '2.0.0': 10 }, { '1.9.0': 100 }]);
      expect(await copiesOf()).toEqual({ '1.9.0': 4, '2.0.0': 1 });
    });

    test('is reverted when its copies do not come up', async () => {
      copiesMax = 0;
      await startManager();
      const store = await begin({ startMs: 1_000 });
      await startMaster('one');
      await untilSettled(store);
      expect(await rolloutOf(store)).toMatchObject({
        state: 'reverted',
        reason: '0 of 1 copies of 2.0.0 came up within 1.0s; katamari events says why',
        calls: 0,
      });
      expect(await weightsOf()).toEqual([{ '1.9.0': 100 }]);
    });

    test('goes on after a change of the leader in each step', async () => {
      await startManager();
      const store = await begin();
      for (let at = 0; at < PLAN.steps.length; at++) {
        const master = await startMaster(`leader-${at}`);
        const isThere = async (): Promise<boolean> => {
          const { step, phase, state } = await rolloutOf(store);
          return state === 'done' || step > at || (step === at && phase === 'holding');
        };
        await until(`step ${at}`, isThere, 30_000);
        await master.close();
      }
      await startMaster('last');
      await untilSettled(store);
      expect(await rolloutOf(store)).toMatchObject({ state: 'done', share: 100 });
      expect(await weightsOf()).toEqual(WEIGHTS);
    });

    test('ends alike when Consul fails before or after each write', async () => {
      await startManager();
      const store = await begin();
      let writes = 0;
      let failures = 0;
      const failing = new Proxy(client, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name);
          if (typeof value !== 'function') return value;
          return async (...args: unknown[]): Promise<unknown> => {
            const call = (): unknown => (value as (...all: unknown[]) => unknown).apply(target, args);
            const isMove = name === 'transact' && JSON.stringify(args[0]).includes(keysOf(mesh).rollouts);
            // Every second write fails, in turn before and after it is made.
            if ((!isMove && name !== 'put') || ++writes % 2 === 0) return call();
            if (++failures % 2 === 0) await call();
            throw new ConsulError('the test cuts it', 0, false, undefined);
          };
        },
      });
      await startMaster('one', failing);
      await untilSettled(store);
      expect(failures).toBeGreaterThan(4);
      expect(await weightsOf()).toEqual(WEIGHTS);
    });

    test('is paused, resumed, promoted and aborted, and refused beside another one', async () => {
      await startManager();
      const store = await begin({ holdMs: 1_500 });
      await startMaster('one');
      await until('the first share', async () => (await rolloutOf(store)).share === 10, 30_000);
      await store.change('Search', 'pause', 'bob', () => NOT_UP);
      await expect(store.start(aRollout())).rejects.toThrow('The rollout of Search@1.9.0 -> 2.0.0 is paused; wait');
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      expect(await rolloutOf(store)).toMatchObject({ state: 'paused', reason: 'by bob', share: 10 });
      await store.change('Search', 'promote', 'bob', () => NOT_UP);
      await until('the last share', async () => (await rolloutOf(store)).share === 100, 30_000);
      await store.change('Search', 'abort', 'bob', () => NOT_UP);
      expect(await rolloutOf(store)).toMatchObject({ state: 'aborted', reason: 'by bob', share: 0 });
      expect(await routeNow()).toMatchObject({ weights: { '1.9.0': 100 }, by: 'bob' });
      await expect(store.change('Search', 'resume', 'bob', () => NOT_UP)).rejects.toThrow('has ended: it is aborted');
      await expect(store.change('Other', 'pause', 'bob', () => NOT_UP)).rejects.toThrow(
        'Other has no rollout; begin one',
      );
    });

    test('is paused when somebody changes the route, and goes on from there when it is resumed', async () => {
      await startManager();
      const store = await begin({ holdMs: 60_000 });
      await startMaster('one');
      await until('the first share', async () => (await rolloutOf(store)).share === 10, 30_000);
      await new RouteStore(client, mesh).change('Search', 'bob', () => ({ weights: { '1.9.0': 70, '2.0.0': 30 } }));
      await until('the pause', async () => (await rolloutOf(store)).state === 'paused', 30_000);
      expect((await rolloutOf(store)).reason).toContain('bob changed the route (change 3)');
      await store.change('Search', 'resume', 'bob', () => NOT_UP);
      await until('the share again', async () => (await routeNow())?.weights['2.0.0'] === 10, 30_000);
      expect(await rolloutOf(store)).toMatchObject({ state: 'running', phase: 'holding', share: 10, splitIndex: 4 });
    });

    test('goes on from its backup when Consul has lost the data of the mesh', async () => {
      await startManager();
      const store = await begin({ holdMs: 2_000 });
      const master = await startMaster('one');
      await until('the first share', async () => (await rolloutOf(store)).share === 10, 30_000);
      const file = path.join(directory, mesh, 'one', 'wanted.json');
      const isBackedUp = (): boolean => existsSync(file) && readFileSync(file, 'utf8').includes('\\"share\\":10');
      await until('the backup', isBackedUp, 30_000);
      await master.close();
      const { deployments, routes, rollouts, begun } = keysOf(mesh);
      for (const key of [deployments, routes, rollouts, begun]) await client.delete(key, { isTree: true });
      expect(await store.list()).toEqual([]);
      await startMaster('one');
      await untilSettled(store);
      expect(await rolloutOf(store)).toMatchObject({ state: 'done', share: 100 });
      expect((await routeNow())?.weights).toEqual({ '1.9.0': 0, '2.0.0': 100 });
    });

    test('stands still without a leader, and says which master leads', async () => {
      const store = await begin();
      expect(await store.leader()).toBe('');
      expect(await rolloutOf(store)).toMatchObject({ state: 'running', share: 0 });
      await startMaster('one');
      await until('a leader', async () => (await store.leader()) === 'one', 30_000);
    });
  });
}
