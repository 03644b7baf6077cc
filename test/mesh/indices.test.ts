// Sharded content in a whole mesh: an index record in Consul becomes shards that a content server serves, and nothing
// is left when it is removed. The mesh is a process of its own with the embedded Consul.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../services/consul/mod.ts';
import {
  documentSigner,
  HOLDINGS,
  keysOf,
  readEntry,
  type HoldingsRecord,
  type IndexRecord,
} from '../../services/mesh/mod.ts';
import { addIndex, writeWords } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const KEYS = keysOf('test');
let folder: string;
let mesh: MeshProcess;
let client: ConsulClient;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-indices-'));
  writeWords(path.join(folder, 'source'), { a: 'the cat', b: 'the dog and the end', c: 'nothing' });
  await start();
}, 60_000);
afterEach(async () => {
  await mesh.end();
  rmSync(folder, { recursive: true, force: true });
});

async function start(): Promise<void> {
  const directory = path.join(folder, 'mesh');
  mkdirSync(directory, { recursive: true });
  mesh = await startMeshProcess({
    directory,
    settings: { timeout: '1s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [work({ service: 'Words', command: fixture('words.ts'), count: 2 })],
  });
  const secret = readFileSync(path.join(directory, 'data/link-secret'), 'utf8').trim();
  client = consulClient({
    address: mesh.addresses.consul,
    token: mesh.consulToken,
    signer: documentSigner('test', () => [secret]),
  });
}

const add = (version: string, change: Partial<IndexRecord> = {}): Promise<void> =>
  addIndex(client, path.join(folder, 'source'), version, change);

async function holdings(): Promise<HoldingsRecord | undefined> {
  const { entries } = await client.list(KEYS.holdings);
  const [entry] = entries;
  const record = entry === undefined ? undefined : readEntry(HOLDINGS, entry);
  return record instanceof Error ? undefined : record;
}

const served = (wanted: Record<string, string>): Promise<boolean> =>
  until(
    `${JSON.stringify(wanted)} to be served`,
    async () => JSON.stringify((await holdings())?.serving) === JSON.stringify(wanted),
  );
const counted = async (word: string): Promise<unknown> => (await mesh.call('Words.count', { word })).result;
const live = (): string => path.join(folder, 'mesh/data/shards/live');

describe('An index in a mesh', () => {
  test('is served from its record until it is removed, and leaves nothing in the way', async () => {
    await add('1.0.0');
    await served({ 'wiki@1.0.0': '0-2' });
    expect(await counted('the')).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 2, 'wiki@1.0.0/c': 0 });
    expect(await holdings()).toMatchObject({ onDisk: { 'wiki@1.0.0': '0-2' }, failed: [] });
    expect((await holdings())?.freeBytes).toBeGreaterThan(0);
    await add('2.0.0');
    await served({ 'wiki@1.0.0': '0-2', 'wiki@2.0.0': '0-2' });
    await client.delete(`${KEYS.indices}wiki/1.0.0`);
    await served({ 'wiki@2.0.0': '0-2' });
    await until('its files to go', () => !existsSync(path.join(live(), 'wiki@1.0.0')));
    expect(Object.keys((await counted('the')) as object)).toEqual(['wiki@2.0.0/a', 'wiki@2.0.0/b', 'wiki@2.0.0/c']);
    expect(readdirSync(live())).toEqual(['wiki@2.0.0']);
  }, 120_000);

  test('is served by the next process from its disk, though the source has gone', async () => {
    await add('1.0.0');
    await served({ 'wiki@1.0.0': '0-2' });
    const file = path.join(live(), 'wiki@1.0.0/b/content/words.txt');
    const before = statSync(file).ino;
    await mesh.kill();
    await mesh.end();
    rmSync(path.join(folder, 'source'), { recursive: true });
    await start();
    await until(
      'the shards to be open',
      async () => Object.keys(((await counted('the')) ?? {}) as object).length === 3,
    );
    expect(await counted('the')).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 2, 'wiki@1.0.0/c': 0 });
    expect(statSync(file).ino).toBe(before);
  }, 120_000);

  test('that nobody can serve is an event with the reason, and is served when that is mended', async () => {
    await add('1.0.0', { contentService: 'Grep', contentRange: '' });
    const told = (text: string): Promise<boolean> => until(`the event: ${text}`, () => mesh.output().includes(text));
    await told('no manager has a copy of the content service Grep; deploy it');
    await add('1.0.0', { replicas: 2 });
    await told('2 replicas are wanted, and 1 manager has the content service');
    await served({ 'wiki@1.0.0': '0-2' });
  }, 120_000);

  test('with a document that the mesh has not signed is ignored', async () => {
    const stranger = consulClient({ address: mesh.addresses.consul, token: mesh.consulToken });
    await add('1.0.0');
    await served({ 'wiki@1.0.0': '0-2' });
    const { entries } = await client.list(KEYS.indices);
    const record = JSON.parse(entries[0]?.value ?? '') as IndexRecord;
    await stranger.put(
      `${KEYS.indices}wiki/9.0.0`,
      JSON.stringify({ ...record, version: '9.0.0', source: 'file:///etc' }),
    );
    await stranger.put(`${KEYS.indices}wiki/1.0.0`, JSON.stringify({ ...record, source: 'file:///etc' }));
    await until('the events', () => mesh.output().split('is not signed by a process of this mesh').length > 2);
    expect((await holdings())?.serving).toEqual({ 'wiki@1.0.0': '0-2' });
    expect(await counted('cat')).toEqual({ 'wiki@1.0.0/a': 1, 'wiki@1.0.0/b': 0, 'wiki@1.0.0/c': 0 });
  }, 120_000);
});
