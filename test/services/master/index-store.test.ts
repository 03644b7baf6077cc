// Index versions in Consul: two versions may have the same manifest, and two operators may change them at the same
// time.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import { EventLog, keysOf, type ManifestRecord } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { newIndex } from '../../kit/mesh/index-source.ts';

const BUSY_MS = 60_000;
const MANIFEST: ManifestRecord = { shards: [{ name: 'a', bytes: 1, digest: 'd' }] };

type Steps = [readonly { readonly key: string }[]];

describe('IndexStore', () => {
  let consul: TestConsul;
  let client: ConsulClient;
  let meshes = 0;
  beforeAll(async () => {
    consul = await startConsul('embedded');
    client = consulClient({ address: consul.address });
  }, BUSY_MS);
  afterAll(() => consul.close());

  const storeOf = (mesh: string, one: ConsulClient = client): IndexStore =>
    new IndexStore({ client: one, mesh, events: new EventLog('tests') });
  const manifestsOf = async (mesh: string): Promise<string[]> =>
    (await client.list(keysOf(mesh).manifests)).entries.map(({ value }) => value);

  /** The client, which does something else before it first sends a change of a key below `prefix`. */
  function interrupted(verb: 'transact' | 'delete', prefix: string, act: () => Promise<unknown>): ConsulClient {
    let isDone = false;
    const changed = async (key: string): Promise<void> => {
      if (isDone || !key.startsWith(prefix)) return;
      isDone = true;
      await act();
    };
    return new Proxy(client, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown;
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          if (name === verb) await changed(typeof args[0] === 'string' ? args[0] : ((args as Steps)[0][0]?.key ?? ''));
          return (await Reflect.apply(value, target, args)) as unknown;
        };
      },
    });
  }

  test('remove() deletes the manifest with the last version that has it', async () => {
    const mesh = `m${++meshes}`;
    const store = storeOf(mesh);
    await store.add(newIndex('1.0.0'), MANIFEST);
    await store.add(newIndex('2.0.0'), MANIFEST);
    await store.remove('wiki', '1.0.0');
    expect(await manifestsOf(mesh)).toEqual([JSON.stringify(MANIFEST)]);
    await store.remove('wiki', '2.0.0');
    expect(await manifestsOf(mesh)).toEqual([]);
  });

  test('remove() leaves the manifest to a version that is added before it deletes it', async () => {
    const mesh = `m${++meshes}`;
    const other = storeOf(mesh);
    await other.add(newIndex('1.0.0'), MANIFEST);
    const add = (): Promise<unknown> => other.add(newIndex('2.0.0'), MANIFEST);
    await storeOf(mesh, interrupted('delete', keysOf(mesh).manifests, add)).remove('wiki', '1.0.0');
    expect((await other.list()).map(({ version }) => version)).toEqual(['2.0.0']);
    expect(await manifestsOf(mesh)).toEqual([JSON.stringify(MANIFEST)]);
  });

  test('add() has its manifest when the last other version is removed before it writes the record', async () => {
    const mesh = `m${++meshes}`;
    const other = storeOf(mesh);
    await other.add(newIndex('1.0.0'), MANIFEST);
    const remove = (): Promise<void> => other.remove('wiki', '1.0.0');
    await storeOf(mesh, interrupted('transact', keysOf(mesh).indices, remove)).add(newIndex('2.0.0'), MANIFEST);
    expect((await other.list()).map(({ version }) => version)).toEqual(['2.0.0']);
    expect(await manifestsOf(mesh)).toEqual([JSON.stringify(MANIFEST)]);
  });

  test('add() of a version that another operator adds at the same time fails, and leaves no manifest', async () => {
    const mesh = `m${++meshes}`;
    const theirs: ManifestRecord = { shards: [{ name: 'b', bytes: 2, digest: 'e' }] };
    const add = (): Promise<unknown> => storeOf(mesh).add(newIndex('1.0.0'), theirs);
    const mine = storeOf(mesh, interrupted('transact', keysOf(mesh).indices, add));
    await expect(mine.add(newIndex('1.0.0'), MANIFEST)).rejects.toThrow(
      'wiki@1.0.0 was changed by another client at the same time; try again',
    );
    expect(await manifestsOf(mesh)).toEqual([JSON.stringify(theirs)]);
  });

  test('pins a version to managers, and forgets the pin', async () => {
    const store = storeOf('pins');
    await store.add(newIndex('1.0.0'), MANIFEST);
    expect(await store.setPins('wiki', '1.0.0', ['m2', 'm1', 'm2'])).toMatchObject({ pinnedTo: ['m1', 'm2'] });
    expect(await store.get('wiki', '1.0.0')).toMatchObject({ pinnedTo: ['m1', 'm2'], replicas: 1 });
    // Another change leaves it.
    expect(await store.setReplicas('wiki', '1.0.0', 2)).toMatchObject({ pinnedTo: ['m1', 'm2'], replicas: 2 });
    await store.setPins('wiki', '1.0.0', []);
    expect(await store.get('wiki', '1.0.0')).not.toHaveProperty('pinnedTo');
    await expect(store.setPins('wiki', '2.0.0', [])).rejects.toThrow('its versions are 1.0.0');
  });
});
