// The admin service for indices: the route of an index when a version is removed, while another admin changes the same
// route; the manager that lists a source, and what is said when it cannot.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KatamariError } from '../../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import type { IndexActions } from '../../../services/master/index-actions.ts';
import { indexMethods } from '../../../services/master/index-admin.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import { EventLog, keysOf, Reachability, SharedState, type Route } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { withRival } from '../../kit/consul/rival-writer.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { until } from '../../kit/tools/wait.ts';
import { indexOf, managerOf } from './index-records.ts';

function notUsed(): never {
  throw new Error('the method does not need this');
}

const NO_ACTIONS: Omit<IndexActions, 'store'> = {
  manifest: notUsed,
  managers: notUsed,
  inspect: notUsed,
  replicas: notUsed,
  verify: notUsed,
  verification: notUsed,
  readHoldings: notUsed,
  isService: notUsed,
  routes: notUsed,
  setRoute: notUsed,
  changeRoute: notUsed,
  forgetRoutes: notUsed,
  shareOf: notUsed,
  clock: new ManualClock(),
};

describe('removeIndex', () => {
  let consul: TestConsul;
  let client: ConsulClient;
  let meshes = 0;
  beforeAll(async () => {
    consul = await startConsul('embedded');
    client = consulClient({ address: consul.address });
  });
  afterAll(async () => {
    client?.close();
    await consul?.close();
  });

  const sharedOf = (mesh: string, own: ConsulClient): SharedState => {
    const events = new EventLog('test');
    const reachability = new Reachability(consul.address, events);
    return new SharedState({ client: own, mesh, events, reachability, initial: { timeoutMs: 1, routes: new Map() } });
  };

  /**
   * Removes version 1.0.0 of wiki, which has 2.0.0 too, while another admin sets its route.
   * @param before weights that it had, and those that the other admin sets
   * @param at what is about to be written then
   */
  async function remove(
    before: Record<string, number>,
    meanwhile: Record<string, number>,
    at: 'route' | 'record' = 'route',
  ): Promise<string> {
    const mesh = `m${++meshes}`;
    const seeded = new IndexStore({ client, mesh, events: new EventLog('test') });
    for (const version of ['1.0.0', '2.0.0'])
      await seeded.add(indexOf(version)[1], { shards: [{ name: version, bytes: 1, digest: 'd' }] });
    const other = sharedOf(mesh, client);
    await other.setRoute('wiki', { weights: before }, 'ann');
    const rival = withRival(
      client,
      async (count) =>
        count === (at === 'route' ? 1 : 2) && (await other.setRoute('wiki', { weights: meanwhile }, 'ann')),
    );
    const shared = sharedOf(mesh, at === 'route' ? rival : client);
    const store = at === 'record' ? new IndexStore({ client: rival, mesh, events: new EventLog('test') }) : seeded;
    const actions: IndexActions = {
      ...NO_ACTIONS,
      store,
      routes: () => shared.routes,
      changeRoute: (service, by, change) => shared.changeRoute(service, by, change),
    };
    const act = indexMethods(actions)['removeIndex']?.act as (args: unknown, call: unknown) => Promise<void>;
    const call = { caller: { name: 'root' }, note: () => undefined };
    const refusal = await act({ name: 'wiki', version: '1.0.0' }, call).then(
      () => '',
      (error: Error) => error.message,
    );
    const versions = (await store.list()).map(({ version }) => version).join(', ');
    const { weights, by } = JSON.parse((await client.get(`${keysOf(mesh).routes}wiki`))?.value ?? '{}') as Route;
    return `${versions}; ${JSON.stringify(weights)} by ${by}; ${refusal}`;
  }

  test('takes its weight of 0 out of the route that another admin has set meanwhile', async () => {
    expect(await remove({ '1.0.0': 0, '2.0.0': 1 }, { '1.0.0': 0, '2.0.0': 7, '3.0.0': 3 })).toBe(
      '2.0.0; {"2.0.0":7,"3.0.0":3} by root; ',
    );
  });

  test('is refused when another admin gives calls to the version meanwhile', async () => {
    expect(await remove({ '1.0.0': 0, '2.0.0': 1 }, { '1.0.0': 100 })).toBe(
      '1.0.0, 2.0.0; {"1.0.0":100} by ann; ' +
        'AdminRefused why: wiki@1.0.0 gets calls that name no version; give them to another one first: ' +
        'katamari index promote wiki@2.0.0, code: invalid',
    );
  });

  test('takes the version out of the route when another admin promotes it at the last moment', async () => {
    expect(await remove({ '2.0.0': 1 }, { '1.0.0': 100, '2.0.0': 1 }, 'record')).toBe('2.0.0; {"2.0.0":1} by root; ');
  });
});

describe('inspectSource', () => {
  const unreachable = new KatamariError('resource_failed', 'its link is down', { notRun: true });

  /** Lists a source with two managers. @param inspect answers of the managers */
  function list(
    inspect: IndexActions['inspect'],
    clock = new ManualClock(),
    contentService = 'Words',
  ): Promise<unknown> {
    const managers = new Map([managerOf('m1'), managerOf('m2')]);
    const store = undefined as unknown as IndexStore;
    const actions: IndexActions = { ...NO_ACTIONS, store, managers: () => managers, inspect, clock };
    const act = indexMethods(actions)['inspectSource']?.act as (args: unknown) => Promise<{ manager: string }>;
    return act({ source: 'file:///srv/wiki', contentService }).then(
      ({ manager }) => manager,
      (error: Error) => error.message,
    );
  }
  const facts = { shards: [], warnings: [] };

  test('asks the next manager when the link to one is down', async () => {
    expect(await list(async (manager) => (manager === 'm1' ? Promise.reject(unreachable) : facts))).toBe('m2');
  });

  test('asks again while no manager can be reached, and gives up after 5 s', async () => {
    const clock = new ManualClock();
    let asked = 0;
    const answer = list(async (manager) => {
      asked++;
      return asked > 10 && manager === 'm1' ? facts : Promise.reject(unreachable);
    }, clock);
    const steps = until('the answer', () => {
      clock.advance(250);
      return asked > 10;
    });
    expect(await answer).toBe('m1');
    await steps;
    let isOver = false;
    const startMs = clock.nowMs();
    const refused = list(async () => Promise.reject(unreachable), clock).finally(() => (isOver = true));
    await until('the refusal', () => {
      if (!isOver) clock.advance(250);
      return isOver;
    });
    expect([await refused, clock.nowMs() - startMs]).toEqual(['its link is down', 5_000]);
  });

  test('names the manager, and what is wrong with the source there, without another manager', async () => {
    const asked: string[] = [];
    const wrong = async (manager: string): Promise<never> => {
      asked.push(manager);
      throw new KatamariError('bad_request', 'the source has no shards');
    };
    expect([await list(wrong), asked]).toEqual([
      'The manager m1 cannot list the source: the source has no shards',
      ['m1'],
    ]);
    expect(await list(async () => Promise.reject(new KatamariError('timeout', 'no answer in time')))).toBe(
      'no answer in time',
    );
  });

  test('names the services that are here when the content service is not', async () => {
    const why =
      'No manager has a copy of the content service Wrods; deploy it first, or name one of the services here: Words';
    expect(await list(notUsed, new ManualClock(), 'Wrods')).toContain(why);
  });
});
