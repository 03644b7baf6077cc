// From the shards of an assignment to orders for the keeper, with manifests from a real Consul.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../core/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { ShardOrders, type ShardOrder } from '../../../services/content/mod.ts';
import { EventLog, keysOf, ManifestCache, manifestHash, type ShardsOrder } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { until } from '../../kit/tools/wait.ts';

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const KEYS = keysOf('test');
let consul: TestConsul;
let client: ConsulClient;
let folder: string;
let events: EventLog;
let set: string[][];
let orders: ShardOrders;

beforeEach(async () => {
  consul = await startConsul('real');
  client = consulClient({ address: consul.address });
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-shard-orders-'));
  events = new EventLog('one');
  set = [];
  orders = newOrders();
});
afterEach(async () => {
  orders.close();
  await consul.close();
  rmSync(folder, { recursive: true, force: true });
});

function newOrders(): ShardOrders {
  const manifests = new ManifestCache({ client, mesh: 'test', folder });
  const keeper = {
    setOrders: (all: readonly ShardOrder[]) =>
      void set.push(all.map(({ indexVersion, name, source, place }) => `${indexVersion}/${name} ${place} ${source}`)),
  };
  return new ShardOrders({ keeper, manifests, events, clock: systemClock });
}

async function manifestOf(...names: string[]): Promise<string> {
  const text = JSON.stringify({ shards: names.map((name) => ({ name, bytes: 1, digest: 'd' })) });
  await client.put(`${KEYS.manifests}${manifestHash(text)}`, text);
  return manifestHash(text);
}

const orderOf = (manifest: string, places: string, change: Partial<ShardsOrder> = {}): ShardsOrder => ({
  indexVersion: 'wiki@1.0.0',
  manifest,
  source: 'file:///srv/wiki/',
  contentService: 'Words',
  contentRange: '',
  places,
  ...change,
});
const told = (): string[] => events.after(0).map(({ subject, text }) => `${subject}: ${text}`);

describe('The shards of an assignment', () => {
  test('become orders with the names and sources of the shards', async () => {
    orders.set([orderOf(await manifestOf('a', 'b', 'c'), '0,2')]);
    await until('the orders', () => set.length === 1);
    expect(set[0]).toEqual(['wiki@1.0.0/a 0 file:///srv/wiki/a', 'wiki@1.0.0/c 2 file:///srv/wiki/c']);
    orders.set([]);
    await until('no orders', () => set.length === 2);
    expect(set[1]).toEqual([]);
  });

  test('are known without Consul by a manager that had them', async () => {
    const manifest = await manifestOf('a', 'b');
    orders.set([orderOf(manifest, '1')]);
    await until('the orders', () => set.length === 1);
    orders.close();
    await consul.kill();
    orders = newOrders();
    orders.set([orderOf(manifest, '1')]);
    await until('the orders from disk', () => set.length === 2);
    expect(set[1]).toEqual(set[0]);
  });

  test('stay as they are while a manifest is missing, and follow when it comes', async () => {
    const first = await manifestOf('a', 'b');
    orders.set([orderOf(first, '0')]);
    await until('the orders', () => set.length === 1);
    const text = JSON.stringify({ shards: [{ name: 'x', bytes: 1, digest: 'd' }] });
    const other = orderOf(manifestHash(text), '0', { indexVersion: 'wiki@2.0.0' });
    orders.set([orderOf(first, '0-1'), other]);
    await until('the event', () => told().length === 1);
    expect(told()[0]).toMatch(
      /^shards: wiki@2\.0\.0: the manifest [0-9a-f]{12} is not in Consul, or was changed there; add the index again$/,
    );
    expect(set.at(-1)?.map((line) => line.split(' ')[0])).toEqual(['wiki@1.0.0/a', 'wiki@1.0.0/b']);
    await client.put(`${KEYS.manifests}${manifestHash(text)}`, text);
    await until('the rest', () => set.at(-1)?.length === 3);
    expect(told().length).toBe(1);
  });

  test('are refused when the manifest was changed in Consul or on the disk', async () => {
    const manifest = await manifestOf('a');
    writeFileSync(path.join(folder, `${manifest}.json`), '{"shards":[{"name":"evil","bytes":1,"digest":"d"}]}');
    orders.set([orderOf(manifest, '0')]);
    await until('the orders', () => set.length === 1);
    // The file is not believed, and Consul has the right one.
    expect(set[0]).toEqual(['wiki@1.0.0/a 0 file:///srv/wiki/a']);
    const another = await manifestOf('b');
    await client.put(`${KEYS.manifests}${another}`, '{"shards":[]}');
    orders.set([orderOf(another, '0')]);
    await until('the event', () => told().length === 1);
    expect(told()[0]).toContain('is not in Consul, or was changed there');
    expect(readdirSync(folder)).toEqual([`${manifest}.json`]);
  });

  test.each([
    ['9', 'its manifest has 2 shards, and place 9 is ordered'],
    ['1,0', 'found "0", expected places in order below 4000'],
  ])('with places "%s" are refused', async (places, why) => {
    orders.set([orderOf(await manifestOf('a', 'b'), places)]);
    await until('the event', () => told().length === 1);
    expect(told()[0]).toContain(why);
  });
});
