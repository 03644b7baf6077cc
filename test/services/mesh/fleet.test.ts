// The managers of a mesh as another process sees them: real links, a real agent in place of Consul, records as
// managers write them.

import { afterEach, describe, expect, test } from 'vitest';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { until } from '../../kit/tools/wait.ts';
import { parseIdl } from '../../../core/idl/mod.ts';
import { startLinkServer, type LinkServer } from '../../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../../core/mod.ts';
import {
  createCall,
  dispatchOf,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  sendOf,
  type Call,
  type Dispatch,
  type Reply,
} from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { EventLog, Fleet, keysOf, type ManagerRecord, type Offer } from '../../../services/mesh/mod.ts';
import { createServer, type Server } from 'node:net';

/** Resolves to the outcome of a call to a pool; rejects if there is none. */
function sentTo(offer: Offer | undefined, call: Call): Promise<Reply> {
  if (offer === undefined) return Promise.reject(new Error('There is no pool to send to'));
  return dispatchOf(offer.send)(call);
}

const keys = keysOf('fleet');
const source = { main: 'work.thrift', files: { 'work.thrift': 'service Work { i32 plain() }' } };
const face = parseIdl(source).services.get('Work') as Interface;

const ends: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A Consul with one session for all managers of the test. */
async function consul(): Promise<{ server: TestConsul; client: ConsulClient; session: string }> {
  const server = await startConsul('embedded');
  ends.push(() => server.close());
  const client = consulClient({ address: server.address });
  const session = await client.createSession({
    name: 'test',
    ttlMs: 60_000,
    lockDelayMs: 0,
    behavior: 'delete',
    checks: [],
  });
  await client.put(keys.idl + face.id, JSON.stringify(source));
  return { server, client, session };
}

/** A scripted manager port. */
async function managerPort(dispatch: Dispatch, port = 0): Promise<LinkServer> {
  const link = await startLinkServer(`tcp:127.0.0.1:${port}`, {
    send: sendOf(dispatch),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'test',
  });
  ends.push(() => link.close());
  return link;
}

function recordOf(link: Pick<LinkServer, 'address'>, change: Partial<ManagerRecord> = {}): ManagerRecord {
  const pool = { id: 'Work@1.0.0', service: 'Work', version: '1.0.0', roles: [], tags: [], more: {} };
  return {
    address: link.address.replace('tcp:', ''),
    machine: 'm',
    capacity: 1,
    starting: [],
    isDraining: false,
    stats: '',
    pools: [{ ...pool, interfaceId: face.id, alive: 2 }],
    ...change,
  };
}

function fleetOf(
  client: ConsulClient,
  connects: 'at once' | 'on demand' = 'at once',
): { fleet: Fleet; events: EventLog; changes: () => number } {
  const events = new EventLog('test');
  let changes = 0;
  const fleet = new Fleet({
    client,
    mesh: 'fleet',
    self: '',
    events,
    clock: systemClock,
    security: undefined,
    limits: DEFAULT_LIMITS,
    connects,
    onChange: () => changes++,
    onAnswer: () => undefined,
    onError: () => undefined,
  });
  ends.push(() => fleet.close());
  return { fleet, events, changes: () => changes };
}

async function enter(client: ConsulClient, session: string, name: string, record: ManagerRecord): Promise<void> {
  expect(await client.put(keys.managers + name, JSON.stringify(record), { acquire: session })).toBe(true);
}

const answering: Dispatch = () =>
  Promise.resolve({
    isException: false,
    body: EMPTY_STRUCT,
    context: { ...NO_REPLY_CONTEXT, freeNow: 1, queuedNow: 0 },
  });

function call(leftMs = 5_000, signal?: AbortSignal): Call {
  return createCall({
    service: 'Work',
    method: 'plain',
    version: '1.0.0',
    args: EMPTY_STRUCT,
    deadlineMs: performance.now() + leftMs,
    signal,
  });
}

/** The error of a failed call. */
function failure(reply: Promise<unknown> | undefined): Promise<unknown> {
  return (reply ?? Promise.resolve()).then(
    () => undefined,
    (error: unknown) => error,
  );
}

const usable = (fleet: Fleet): number => fleet.offers().filter(({ isReachable }) => isReachable).length;

describe('A manager that enters Consul', () => {
  test('is connected, and its pools are offered with the interface in Consul', async () => {
    const { client, session } = await consul();
    const { fleet, events } = fleetOf(client);
    await fleet.start();
    const link = await managerPort(answering);
    await enter(client, session, 'one', recordOf(link));
    await until('its pool', () => usable(fleet) === 1);
    const [offer] = fleet.offers();
    expect(offer).toMatchObject({ id: 'Work@1.0.0', manager: 'one', alive: 2, free: 2, queued: 0 });
    expect(offer?.interface.id).toBe(face.id);
    expect((await sentTo(offer, call()))?.isException).toBe(false);
    expect(offer?.free).toBe(1);
    expect(events.after(0).map(({ kind }) => kind)).toContain('manager_joined');
  });

  test('without a session is dead: its record is not used', async () => {
    const { client } = await consul();
    const { fleet } = fleetOf(client);
    const link = await managerPort(answering);
    await client.put(`${keys.managers}old`, JSON.stringify(recordOf(link)));
    await fleet.start();
    expect(fleet.records.size).toBe(0);
  });

  test('with an invalid record is reported and skipped, and the others are used', async () => {
    const { client, session } = await consul();
    const { fleet, events } = fleetOf(client);
    const link = await managerPort(answering);
    await client.put(`${keys.managers}bad`, '{"address": 7}', { acquire: session });
    await enter(client, session, 'good', recordOf(link));
    await fleet.start();
    await until('the good one', () => usable(fleet) === 1);
    expect(events.after(0).map(({ subject }) => subject)).toContain('managers/bad');
  });

  test('is complete when all its interfaces are known, and a starting process can wait for that', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client);
    const link = await managerPort(answering);
    const text = await client.get(keys.idl + face.id);
    await client.delete(keys.idl + face.id);
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    let isKnown = false;
    const known = fleet.whenInterfacesKnown().then(() => (isKnown = true));
    await until('the link', () => fleet.stateOf('one') === 'up');
    expect([isKnown, fleet.offers().length]).toEqual([false, 0]);
    await client.put(keys.idl + face.id, text?.value ?? '');
    await known;
    expect(fleet.offers().length).toBe(1);
  });

  test('is connected only on the first call, if so configured', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client, 'on demand');
    const link = await managerPort(answering);
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('its pool', () => usable(fleet) === 1);
    expect(link.connections()).toBe(0);
    await sentTo(fleet.offers()[0], call());
    expect(link.connections()).toBe(1);
  });
});

describe('A link', () => {
  test('fails its calls in flight at once when it breaks, and reconnects when the manager is back', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client);
    let link = await managerPort(() => new Promise<Reply>(() => undefined));
    const port = Number(link.address.split(':').at(-1));
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('the link', () => usable(fleet) === 1);
    const lost = failure(sentTo(fleet.offers()[0], call()));
    await until('the call to be there', () => fleet.peers[0]?.inFlight === 1);
    await link.close();
    expect(await lost).toMatchObject({ code: 'resource_failed' });
    expect(usable(fleet)).toBe(0);
    await expect(sentTo(fleet.offers()[0], call())).rejects.toMatchObject({ facts: { notRun: true } });
    link = await managerPort(answering, port);
    await until('the link again', () => usable(fleet) === 1);
    await sentTo(fleet.offers()[0], call());
  });

  test('without replies is not used although it is open', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client);
    const frozen = await new Promise<Server>((resolve) => {
      const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1', () =>
        resolve(server),
      );
    });
    ends.push(() => void frozen.close());
    const { port } = frozen.address() as { port: number };
    await enter(client, session, 'one', recordOf({ address: `tcp:127.0.0.1:${port}` }));
    await fleet.start();
    await until('the pool', () => fleet.offers().length === 1);
    expect(usable(fleet)).toBe(0);
  });

  test('settles a call at its deadline when the manager does not', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client);
    const link = await managerPort(() => new Promise<Reply>(() => undefined));
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('the link', () => usable(fleet) === 1);
    await expect(sentTo(fleet.offers()[0], call(100))).rejects.toMatchObject({ code: 'timeout' });
    expect(fleet.peers[0]?.inFlight).toBe(0);
  });

  test('cancels a call on the manager when its caller disconnects', async () => {
    const { client, session } = await consul();
    const { fleet } = fleetOf(client);
    const seen: Call[] = [];
    const link = await managerPort(
      (one) =>
        new Promise((_, reject) => {
          seen.push(one);
          one.signal?.addEventListener('abort', () => reject(new KatamariError('cancelled', 'gone')));
        }),
    );
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('the link', () => usable(fleet) === 1);
    const gone = new AbortController();
    const ended = failure(sentTo(fleet.offers()[0], call(5_000, gone.signal)));
    await until('the call to be there', () => seen.length === 1);
    gone.abort();
    expect(await ended).toMatchObject({ code: 'cancelled' });
    await until('the other side to hear of it', () => seen[0]?.signal?.aborted === true);
  });
});

describe('A manager that Consul no longer lists', () => {
  test('stays while its link answers pings, and goes when the link breaks', async () => {
    const { client, session } = await consul();
    const { fleet, changes } = fleetOf(client);
    const link = await managerPort(answering);
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('the link', () => usable(fleet) === 1);
    const before = changes();
    await client.destroySession(session);
    await until('the change to be seen', () => changes() > before);
    expect(usable(fleet)).toBe(1);
    await sentTo(fleet.offers()[0], call());
    await link.close();
    await until('it to be gone', () => fleet.offers().length === 0);
    expect(fleet.records.size).toBe(0);
  });

  test('stays when Consul is away or comes back empty', async () => {
    const { server, client, session } = await consul();
    const { fleet } = fleetOf(client);
    const link = await managerPort(answering);
    await enter(client, session, 'one', recordOf(link));
    await fleet.start();
    await until('the link', () => usable(fleet) === 1);
    await server.kill();
    await sentTo(fleet.offers()[0], call());
    const { answers = 0 } = fleet.stats() ?? {};
    await server.start({ isEmpty: true });
    await until('Consul to have answered', () => (fleet.stats()?.answers ?? 0) > answers);
    expect(usable(fleet)).toBe(1);
    await sentTo(fleet.offers()[0], call());
  });
});

test('A manager that announces its shutdown gets no further call', async () => {
  const { client, session } = await consul();
  const { fleet } = fleetOf(client);
  const link = await managerPort(answering);
  await enter(client, session, 'one', recordOf(link));
  await fleet.start();
  await until('the link', () => usable(fleet) === 1);
  await enter(client, session, 'one', recordOf(link, { isDraining: true }));
  await until('its pools to be gone', () => fleet.offers().length === 0);
});

test('A snapshot is used until Consul has newer data', async () => {
  const { client } = await consul();
  const { fleet } = fleetOf(client);
  const link = await managerPort(answering);
  fleet.interfaces.addSource({ id: face.id, service: 'Work' }, source);
  fleet.loadSnapshot(new Map([['one', recordOf(link)]]));
  await until('the link', () => usable(fleet) === 1);
  await sentTo(fleet.offers()[0], call());
});
