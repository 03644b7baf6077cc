// What is said of a source that cannot be listed; and the route of an index when a version is removed, while another
// admin changes the same route.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KatamariError } from '../../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import type { IndexActions } from '../../../services/master/index-actions.ts';
import { indexMethods } from '../../../services/master/index-admin.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import { EventLog, keysOf, Reachability, SharedState } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { withRival } from '../../kit/consul/rival-writer.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { indexOf, managerOf } from './index-records.ts';

describe('inspectSource', () => {
  const inspect = async (contentService: string, failure: Error): Promise<unknown> => {
    const actions = {
      managers: () => new Map([managerOf('m1')]),
      inspect: () => Promise.reject(failure),
    } as Partial<IndexActions> as IndexActions;
    const act = indexMethods(actions)['inspectSource']?.act as (args: unknown) => Promise<unknown>;
    return await act({ source: 'file:///srv/wiki', contentService }).catch((error: unknown) => error);
  };

  test('names the manager that cannot list the source', async () => {
    const failure = new KatamariError('bad_request', '/srv/wiki does not exist');
    expect(await inspect('Words', failure)).toMatchObject({
      code: 'bad_request',
      message: 'The manager m1 cannot list the source: /srv/wiki does not exist',
    });
    const late = new KatamariError('timeout', 'Manager m1 did not answer in time');
    expect(await inspect('Words', late)).toBe(late);
  });

  test('names the services that are here when the content service is not', async () => {
    expect(await inspect('Wrods', new Error('not asked'))).toMatchObject({
      fields: {
        why: 'No manager has a copy of the content service Wrods; deploy it first, or name one of the services here: Words',
      },
    });
  });
});

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
    await other.setRoute('wiki', { weights: before });
    const rival = withRival(
      client,
      async (count) => count === (at === 'route' ? 1 : 2) && (await other.setRoute('wiki', { weights: meanwhile })),
    );
    const shared = sharedOf(mesh, at === 'route' ? rival : client);
    const store = at === 'record' ? new IndexStore({ client: rival, mesh, events: new EventLog('test') }) : seeded;
    const notUsed = (): never => {
      throw new Error('a removal does not need this');
    };
    const actions: IndexActions = {
      store,
      manifest: notUsed,
      managers: notUsed,
      inspect: notUsed,
      replicas: notUsed,
      verify: notUsed,
      verification: notUsed,
      readHoldings: notUsed,
      isService: notUsed,
      routes: () => shared.routes,
      setRoute: notUsed,
      changeRoute: (service, change) => shared.changeRoute(service, change),
      shareOf: notUsed,
      clock: new ManualClock(),
    };
    const act = indexMethods(actions)['removeIndex']?.act as (args: unknown, call: unknown) => Promise<void>;
    const call = { note: () => undefined };
    const refusal = await act({ name: 'wiki', version: '1.0.0' }, call).then(
      () => '',
      (error: Error) => error.message,
    );
    const versions = (await store.list()).map(({ version }) => version).join(', ');
    const route = (await client.get(`${keysOf(mesh).routes}wiki`))?.value;
    return `${versions}; ${route}; ${refusal}`;
  }

  test('takes its weight of 0 out of the route that another admin has set meanwhile', async () => {
    expect(await remove({ '1.0.0': 0, '2.0.0': 1 }, { '1.0.0': 0, '2.0.0': 7, '3.0.0': 3 })).toBe(
      '2.0.0; {"weights":{"2.0.0":7,"3.0.0":3}}; ',
    );
  });

  test('is refused when another admin gives calls to the version meanwhile', async () => {
    expect(await remove({ '1.0.0': 0, '2.0.0': 1 }, { '1.0.0': 100 })).toBe(
      '1.0.0, 2.0.0; {"weights":{"1.0.0":100}}; ' +
        'AdminRefused why: wiki@1.0.0 gets calls that name no version; give them to another one first: ' +
        'katamari index promote wiki@2.0.0, code: invalid',
    );
  });

  test('takes the version out of the route when another admin promotes it at the last moment', async () => {
    expect(await remove({ '2.0.0': 1 }, { '1.0.0': 100, '2.0.0': 1 }, 'record')).toBe(
      '2.0.0; {"weights":{"2.0.0":1}}; ',
    );
  });
});
