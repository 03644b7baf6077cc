// Settings and routes that two admins change at the same time, through two processes, on the embedded Consul.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { EventLog, keysOf, Reachability, SharedState, TokenStore } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { withRival } from '../../kit/consul/rival-writer.ts';

let consul: TestConsul;
let client: ConsulClient;
let meshes = 0;
let mesh = '';
let opened: { close: () => void }[] = [];

beforeAll(async () => {
  consul = await startConsul('embedded');
  client = consulClient({ address: consul.address });
});
beforeEach(() => {
  mesh = `mesh-${++meshes}`;
});
afterEach(() => {
  for (const one of opened) one.close();
  opened = [];
});
afterAll(async () => {
  client?.close();
  await consul?.close();
});

function open(own: ConsulClient = client): SharedState {
  const events = new EventLog('test');
  const initial = { timeoutMs: 1_000, routes: new Map([['Work', { weights: { '0.9.0': 1 } }]]) };
  const reachability = new Reachability(consul.address, events);
  const shared = new SharedState({ client: own, mesh, events, reachability, initial });
  opened.push(shared);
  return shared;
}

async function storedAt(key: string): Promise<unknown> {
  const entry = await client.get(key);
  return entry === undefined ? undefined : JSON.parse(entry.value);
}

const route = (version: string): { weights: Record<string, number> } => ({ weights: { [version]: 1 } });

test('setRoute() of two admins at the same moment: one is told to try again, and no change is lost unseen', async () => {
  const other = open();
  const slow = open(withRival(client, async (count) => count === 1 && other.setRoute('Work', route('2.0.0'), 'ann')));
  await expect(slow.setRoute('Work', route('1.0.0'), 'bob')).rejects.toMatchObject({
    code: 'bad_request',
    message: expect.stringMatching(/^The route of Work was changed by another client at the same time/) as unknown,
  });
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toMatchObject(route('2.0.0'));
  // What was not written is not in force.
  expect(slow.routes.get('Work')).toEqual(route('0.9.0'));
  await slow.setRoute('Work', route('1.0.0'), 'bob');
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toMatchObject(route('1.0.0'));
  expect(slow.routes.get('Work')).toMatchObject({ ...route('1.0.0'), index: 2, by: 'bob' });
});

test('setRoute() without weights, against a route that was set meanwhile, is refused too', async () => {
  const other = open();
  await other.setRoute('Work', route('1.0.0'), 'ann');
  const slow = open(withRival(client, async (count) => count === 1 && other.setRoute('Work', route('2.0.0'), 'ann')));
  await expect(slow.setRoute('Work', { weights: {} }, 'bob')).rejects.toThrow('was changed by another client');
  await slow.setRoute('Work', { weights: {} }, 'bob');
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toBeUndefined();
  expect(slow.routes.get('Work')).toEqual(route('0.9.0'));
});

test('changeRoute() keeps the change of another admin, and adds its own', async () => {
  const other = open();
  const slow = open(
    withRival(
      client,
      async (count) => count === 1 && other.setRoute('Work', { weights: { '2.0.0': 5, '3.0.0': 5 } }, 'ann'),
    ),
  );
  const seen: unknown[] = [];
  await slow.changeRoute('Work', 'bob', ({ weights }) => {
    seen.push(weights);
    return { weights: { ...weights, '1.0.0': 7 } };
  });
  expect(seen).toEqual([{ '0.9.0': 1 }, { '2.0.0': 5, '3.0.0': 5 }]);
  const both = { weights: { '2.0.0': 5, '3.0.0': 5, '1.0.0': 7 } };
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toMatchObject(both);
  expect(slow.routes.get('Work')).toMatchObject({ ...both, index: 2, by: 'bob' });
});

test('changeRoute() that leaves the route, or throws, writes nothing', async () => {
  const shared = open();
  await shared.changeRoute('Work', 'bob', () => undefined);
  const thrown = shared.changeRoute('Work', 'bob', () => {
    throw new Error('no');
  });
  await expect(thrown).rejects.toThrow('no');
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toBeUndefined();
  expect(shared.routes.get('Work')).toEqual(route('0.9.0'));
});

test('setRoute() with the number of a change is refused when another change came since, whatever it made', async () => {
  const [one, other] = [open(), open()];
  await one.setRoute('Work', route('1.0.0'), 'ann', 0);
  await other.setRoute('Work', route('2.0.0'), 'bob', 1);
  await expect(one.setRoute('Work', route('3.0.0'), 'ann', 1)).rejects.toThrow(
    'The route of Work is not that of change 1 any more: change 2 by bob came since, so this change was not made',
  );
  await other.setRoute('Work', undefined, 'bob', 2);
  await expect(one.setRoute('Work', route('3.0.0'), 'ann', 2)).rejects.toThrow('its route was reset since');
  await one.setRoute('Work', route('3.0.0'), 'ann', 0);
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toMatchObject({ index: 4, by: 'ann' });
});

test('The history of a route has every change, its author and its end, and no change twice', async () => {
  const shared = open();
  await shared.setRoute('Work', route('1.0.0'), 'ann');
  await shared.setRoute('Work', route('1.0.0'), 'bob');
  await shared.setRoute('Work', { ...route('2.0.0'), fallback: 'fail' }, 'bob');
  await shared.setRoute('Work', undefined, 'eve');
  await shared.setRoute('Work', undefined, 'eve');
  const expected = [
    { index: 3, by: 'eve', route: null },
    { index: 2, by: 'bob', route: { ...route('2.0.0'), fallback: 'fail' } },
    { index: 1, by: 'ann', route: route('1.0.0') },
  ].map((change) => ({ ...change, atMs: expect.any(Number) as number }));
  expect(await shared.routeHistory('Work')).toEqual(expected);
  await shared.setRoute('Work', route('3.0.0'), 'ann');
  expect(await shared.routeHistory('Work')).toMatchObject([
    { index: 4, by: 'ann', route: route('3.0.0') },
    ...expected,
  ]);
  expect(await shared.routeHistory('Other')).toEqual([]);
  await shared.forgetRoutes('Work');
  expect(await shared.routeHistory('Work')).toMatchObject([{ index: 4 }]);
});

test('A history keeps the last 50 changes before the present one', async () => {
  const shared = open();
  for (let at = 1; at <= 55; at++) await shared.setRoute('Work', { weights: { '1.0.0': at } }, 'ann');
  const changes = await shared.routeHistory('Work');
  expect(changes.map(({ index }) => index)).toEqual(Array.from({ length: 51 }, (_, at) => 55 - at));
  expect(changes.every(({ index, route: kept }) => kept?.weights['1.0.0'] === index)).toBe(true);
});

test('A change that fails after the history was written leaves no gap and no change twice', async () => {
  const [shared, other] = [open(), open()];
  await other.setRoute('Work', route('1.0.0'), 'ann');
  const slow = open(withRival(client, async (count) => count === 1 && other.setRoute('Work', route('2.0.0'), 'ann')));
  await expect(slow.setRoute('Work', route('3.0.0'), 'bob')).rejects.toThrow('was changed by another client');
  await shared.setRoute('Work', route('4.0.0'), 'bob');
  const changes = await shared.routeHistory('Work');
  expect(changes.map(({ index, by }) => `${index} ${by}`)).toEqual(['3 bob', '2 ann', '1 ann']);
});

test('A route of a mesh that counted no changes is the first of the history', async () => {
  await client.put(`${keysOf(mesh).routes}Work`, JSON.stringify(route('1.0.0')));
  const shared = open();
  await shared.setRoute('Work', route('2.0.0'), 'ann');
  expect(await shared.routeHistory('Work')).toMatchObject([
    { index: 1, by: 'ann', route: route('2.0.0') },
    { index: 0, by: '', route: route('1.0.0') },
  ]);
});

test('setTimeoutMs() of two admins at the same moment: one is told to try again', async () => {
  const other = open();
  const slow = open(withRival(client, async (count) => count === 1 && other.setTimeoutMs(3_000)));
  await expect(slow.setTimeoutMs(2_000)).rejects.toThrow('The settings were changed by another client');
  expect(await storedAt(keysOf(mesh).settings)).toEqual({ timeoutMs: 3_000 });
  expect(slow.timeoutMs).toBe(1_000);
});

test('TokenStore.revoke() does not remove a token of the same name that another admin has made meanwhile', async () => {
  const tokenOf = { name: 'ci', scopes: ['read'] as const, roles: [], expiresAtMs: undefined, createdBy: 'root' };
  const events = new EventLog('test');
  const options = { mesh, events, onAnswer: () => undefined, onError: () => undefined };
  const other = new TokenStore({ ...options, client });
  await other.create(tokenOf);
  const replace = async (count: number): Promise<void> => {
    if (count > 1) return;
    await other.revoke('ci', 'other');
    await other.create(tokenOf);
  };
  const slow = new TokenStore({ ...options, client: withRival(client, replace) });
  await expect(slow.revoke('ci', 'slow')).rejects.toThrow('The token ci was replaced by another client');
  expect((await other.list()).map(({ name }) => name)).toEqual(['ci']);
  expect(await slow.revoke('ci', 'slow')).toMatchObject({ name: 'ci' });
  expect(await other.list()).toEqual([]);
  expect(await slow.revoke('ci', 'slow')).toBeUndefined();
});
