// When a version of an index gets the calls by itself: not after an admin has set another route, and also when Consul
// had lost its data meanwhile, on the embedded Consul.

import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import type { Election } from '../../../services/master/election.ts';
import { recordProgress } from '../../../services/master/index-progress.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import { EventLog, keysOf, routeIn, RouteStore, type Route } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { indexOf } from './index-records.ts';

let consul: TestConsul;
let client: ConsulClient;
let meshes = 0;
let mesh = '';
beforeAll(async () => {
  consul = await startConsul('embedded');
  client = consulClient({ address: consul.address });
});
beforeEach(() => {
  mesh = `mesh-${++meshes}`;
});
afterAll(async () => {
  client?.close();
  await consul?.close();
});

const [ID, { manifest: _, ...RECORD }] = indexOf('2.0.0', { promoteAtReplicas: 2 });
const events = new EventLog('test');

/** Adds version 2.0.0 beside a first one, which gets the calls. */
async function add(): Promise<RouteStore> {
  const routes = new RouteStore(client, mesh);
  await routes.change('wiki', 'ann', () => ({ weights: { '1.0.0': 100 }, fallback: 'fail' }));
  await new IndexStore({ client, mesh, events }).add(RECORD, { shards: [{ name: 'a', bytes: 1, digest: 'd' }] });
  return routes;
}

/** Tells the leader that each shard has two replicas. */
async function finish(): Promise<void> {
  // The fence is not what this tests: the leader leads.
  const write = async (_: number, steps: Parameters<ConsulClient['transact']>[0]): Promise<unknown> => {
    const outcome = await client.transact(steps);
    return outcome.isDone ? { kind: 'done', index: outcome.index } : { kind: 'conflict', why: '' };
  };
  const election = { write } as unknown as Election;
  const { signal } = new AbortController();
  const outcome = await recordProgress({ client, mesh, election, events }, { term: 1, id: ID, fewest: 2 }, signal);
  expect(outcome.kind).toBe('done');
}

async function routeNow(): Promise<Route | undefined> {
  return routeIn(await client.get(`${keysOf(mesh).routes}wiki`));
}

test('A version with enough replicas gets the calls, which is a change of the route by the leader', async () => {
  const routes = await add();
  await finish();
  const changed = { weights: { '2.0.0': 100 }, fallback: 'fail', index: 2, by: 'leader' };
  expect(await routeNow()).toMatchObject(changed);
  expect(await routes.history('wiki')).toMatchObject([
    { index: 2, by: 'leader' },
    { index: 1, by: 'ann', route: { weights: { '1.0.0': 100 }, fallback: 'fail' } },
  ]);
});

test('A route that an admin has set since the version was added stays', async () => {
  const routes = await add();
  await routes.change('wiki', 'bob', () => ({ weights: { '1.0.0': 50, '2.0.0': 50 } }));
  await finish();
  expect(await routeNow()).toMatchObject({ weights: { '1.0.0': 50, '2.0.0': 50 }, index: 2, by: 'bob' });
});

test('A version gets the calls too when Consul lost its data meanwhile, and a leader wrote them again', async () => {
  await add();
  const { indices, routes } = keysOf(mesh);
  // In the order in which a leader does it: each key is deleted and created anew, so the route is younger.
  for (const key of [`${indices}wiki/2.0.0`, `${routes}wiki`]) {
    const { value } = (await client.get(key)) ?? { value: '' };
    await client.delete(key);
    await client.put(key, value, { cas: 0 });
  }
  await finish();
  expect(await routeNow()).toMatchObject({ weights: { '2.0.0': 100 }, index: 2, by: 'leader' });
});
