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
  const slow = open(withRival(client, async (count) => count === 1 && other.setRoute('Work', route('2.0.0'))));
  await expect(slow.setRoute('Work', route('1.0.0'))).rejects.toMatchObject({
    code: 'bad_request',
    message: expect.stringMatching(/^The route of Work was changed by another client at the same time/) as unknown,
  });
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toEqual(route('2.0.0'));
  // What was not written is not in force.
  expect(slow.routes.get('Work')).toEqual(route('0.9.0'));
  await slow.setRoute('Work', route('1.0.0'));
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toEqual(route('1.0.0'));
  expect(slow.routes.get('Work')).toEqual(route('1.0.0'));
});

test('setRoute() without weights, against a route that was set meanwhile, is refused too', async () => {
  const other = open();
  await other.setRoute('Work', route('1.0.0'));
  const slow = open(withRival(client, async (count) => count === 1 && other.setRoute('Work', route('2.0.0'))));
  await expect(slow.setRoute('Work', { weights: {} })).rejects.toThrow('was changed by another client');
  await slow.setRoute('Work', { weights: {} });
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toBeUndefined();
  expect(slow.routes.get('Work')).toEqual(route('0.9.0'));
});

test('changeRoute() keeps the change of another admin, and adds its own', async () => {
  const other = open();
  const slow = open(
    withRival(client, async (count) => count === 1 && other.setRoute('Work', { weights: { '2.0.0': 5, '3.0.0': 5 } })),
  );
  const seen: unknown[] = [];
  await slow.changeRoute('Work', ({ weights }) => {
    seen.push(weights);
    return { weights: { ...weights, '1.0.0': 7 } };
  });
  expect(seen).toEqual([{ '0.9.0': 1 }, { '2.0.0': 5, '3.0.0': 5 }]);
  const both = { weights: { '2.0.0': 5, '3.0.0': 5, '1.0.0': 7 } };
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toEqual(both);
  expect(slow.routes.get('Work')).toEqual(both);
});

test('changeRoute() that leaves the route, or throws, writes nothing', async () => {
  const shared = open();
  await shared.changeRoute('Work', () => undefined);
  const thrown = shared.changeRoute('Work', () => {
    throw new Error('no');
  });
  await expect(thrown).rejects.toThrow('no');
  expect(await storedAt(`${keysOf(mesh).routes}Work`)).toBeUndefined();
  expect(shared.routes.get('Work')).toEqual(route('0.9.0'));
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
