// The weights of a route hold to within a call, for each protocol and from inside a chassis, over several faceplates
// and managers.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { poolsOf } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { jsonRpc, work } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 240_000;
const CALLS = sized(10_000, 1_000);
const CALLERS = 8;
const WEIGHTS = { '1.0.0': 70, '2.0.0': 20, '3.0.0': 10 };
/** It has no weight. Its method `ask` calls the others. */
const ASKER = '9.0.0';
const VERSIONS = [...Object.keys(WEIGHTS), ASKER];

let cluster: Cluster;
reportFailures(() => cluster);
beforeAll(async () => {
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 2,
    faceplates: 2,
    settings: { routes: { Work: { weights: WEIGHTS } } },
    deployments: VERSIONS.map((version) => work({ version, concurrency: CALLERS })),
  });
  await until('all copies', async () => {
    const pools = await poolsOf(cluster);
    return pools.length === VERSIONS.length * 2 && pools.every(({ alive }) => alive === 1);
  });
}, BUSY_MS);
afterAll(async () => await cluster?.end(), BUSY_MS);

/** Calls that the pools of each version have got, on all managers. */
async function countsOf(): Promise<Record<string, number>> {
  const pools = await poolsOf(cluster);
  const sum = (version: string): number =>
    pools.reduce((all, pool) => all + (pool.version === version ? pool.calls : 0), 0);
  return Object.fromEntries(Object.keys(WEIGHTS).map((version) => [version, sum(version)]));
}

/** Checks how the calls of `make` were split. */
async function expectShares(what: string, make: () => Promise<void>): Promise<void> {
  const before = await countsOf();
  await make();
  let got: Record<string, number> = {};
  await until(
    () => `all calls to be counted, seen ${JSON.stringify(got)}`,
    async () => {
      const now = await countsOf();
      got = Object.fromEntries(
        Object.entries(now).map(([version, calls]) => [version, calls - (before[version] ?? 0)]),
      );
      return Object.values(got).reduce((sum, one) => sum + one, 0) === CALLS;
    },
  );
  console.log(`${what}: ${CALLS} calls, ${JSON.stringify(got)}`);
  // Each of two faceplates or managers is off by one call at most.
  for (const [version, weight] of Object.entries(WEIGHTS))
    expect(Math.abs((got[version] ?? 0) - (CALLS * weight) / 100), JSON.stringify(got)).toBeLessThanOrEqual(3);
}

/** Makes all calls over JSON-RPC, some at a time, through both faceplates in turn. */
async function callAll(method: string, params: Readonly<Record<string, unknown>>): Promise<void> {
  const urls = cluster.faceplates.map(({ addresses }) => `${addresses.jsonRpc}/rpc`);
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < CALLS) {
      const { result, error } = await jsonRpc(urls[next++ % urls.length] as string, method, params);
      expect([error?.message, result]).toEqual([undefined, 'x']);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, one));
}

describe('Weights of 70, 20 and 10', () => {
  test(
    'hold for calls over Thrift',
    () =>
      expectShares('Thrift', async () => {
        const callers = new ClientCallers({
          addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
          callers: CALLERS,
          callsMax: CALLS / CALLERS,
          service: 'Work',
          call: async (service) => ((await service['say']?.({ text: 'x' })) === 'x' ? '' : 'another text'),
        });
        await callers.done();
        await callers.stop();
        expect([callers.failed, callers.wrong]).toEqual([[], []]);
      }),
    BUSY_MS,
  );

  test(
    'hold for calls over JSON-RPC',
    () => expectShares('JSON-RPC', () => callAll('Work.say', { text: 'x' })),
    BUSY_MS,
  );

  test(
    'hold for calls that a chassis makes',
    () => expectShares('chassis', () => callAll(`Work@${ASKER}.ask`, { service: 'Work', text: 'x' })),
    BUSY_MS,
  );

  test(
    'are counted by all processes together, those of a faceplate that was killed included',
    async () => {
      const [first, second] = cluster.faceplates as [(typeof cluster.faceplates)[0], (typeof cluster.faceplates)[0]];
      const params = { token: cluster.adminToken, serviceName: 'Work', first: '1.0.0', second: '2.0.0' };
      const counted = async (): Promise<readonly (number | undefined)[]> => {
        const { result } = await jsonRpc(`${first.addresses.jsonRpc}/rpc`, 'KatamariVersions.compareVersions', params);
        const [all] = (result as { methods: { first: { calls: number }; second: { calls: number } }[] }).methods;
        return [all?.first.calls, all?.second.calls];
      };
      const isAll = async (): Promise<boolean> => {
        const [one = 0, other = 0] = await counted();
        return Math.abs(one - CALLS * 3 * 0.7) <= 9 && Math.abs(other - CALLS * 3 * 0.2) <= 9;
      };
      await until('the counts of both faceplates and both managers', isAll);
      second.signal('SIGKILL');
      await second.ended;
      expect(await isAll()).toBe(true);
      console.log(`compared: ${(await counted()).join(' and ')} calls of three times ${CALLS}`);
    },
    BUSY_MS,
  );
});
