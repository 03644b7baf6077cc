// The shards on the disk of a manager.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ShardStore } from '../../../services/content/shard-store.ts';

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let root: string;
let store: ShardStore;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'katamari-store-'));
  store = new ShardStore(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const HOUR_MS = 3_600_000;
const shard = (name: string): { indexVersion: string; name: string; digest: string } => ({
  indexVersion: 'wiki@1.0.0',
  name,
  digest: 'd1',
});

async function fetched(name: string, digest = 'd1'): Promise<void> {
  const part = store.partPath(shard(name));
  mkdirSync(path.join(part, 'content'), { recursive: true });
  writeFileSync(path.join(part, 'shard.json'), JSON.stringify({ digest, files: [] }));
  await store.commit(shard(name));
}

describe('A shard on the disk', () => {
  test('is there from its commit until it is retired, and comes back from there', async () => {
    expect(await store.has(shard('a'))).toBe(false);
    await fetched('a');
    await fetched('b');
    expect(await store.has(shard('a'))).toBe(true);
    expect(await store.has({ ...shard('a'), digest: 'd2' })).toBe(false);
    expect((await store.list()).map(({ name }) => name)).toEqual(['a', 'b']);
    await store.retire(shard('a'));
    expect(await store.has(shard('a'))).toBe(false);
    expect(await store.restore({ ...shard('a'), digest: 'd2' })).toBe(false);
    expect(await store.restore(shard('a'))).toBe(true);
    expect(await store.has(shard('a'))).toBe(true);
    expect(await store.restore(shard('a'))).toBe(false);
  });

  test('that was retired is deleted after an hour, or when space is needed, and leaves no folder', async () => {
    await fetched('a');
    await store.retire(shard('a'));
    await store.sweepOld(Date.now() + HOUR_MS - 60_000);
    expect(existsSync(path.join(root, 'old/wiki@1.0.0/a'))).toBe(true);
    await store.sweepOld(Date.now() + HOUR_MS + 60_000);
    expect(readdirSync(path.join(root, 'old'))).toEqual([]);
    expect(readdirSync(path.join(root, 'live'))).toEqual([]);
    await fetched('b');
    await store.retire(shard('b'));
    await store.sweepOld(Date.now(), true);
    expect(await store.restore(shard('b'))).toBe(false);
  });

  test('that was fetched in part is deleted when it is not wanted', async () => {
    for (const name of ['a', 'b']) mkdirSync(store.partPath(shard(name)), { recursive: true });
    mkdirSync(path.join(root, 'part', 'lost+found', 'x'), { recursive: true });
    await store.deleteParts(({ name }) => name === 'b');
    expect(readdirSync(path.join(root, 'part/wiki@1.0.0'))).toEqual(['b']);
    expect(existsSync(path.join(root, 'part/lost+found/x'))).toBe(true);
  });

  test('that was fetched in part has the bytes of all its files', async () => {
    expect(await store.partBytes(shard('a'))).toBe(0);
    mkdirSync(path.join(store.partPath(shard('a')), 'content/deep'), { recursive: true });
    writeFileSync(path.join(store.partPath(shard('a')), 'content/deep/x'), 'hello');
    writeFileSync(path.join(store.partPath(shard('a')), 'unfinished-1'), 'hi');
    expect(await store.partBytes(shard('a'))).toBe(7);
    expect(await store.partBytes(shard('b'))).toBe(0);
  });

  test('with a record that cannot be read is not there', async () => {
    await fetched('a');
    writeFileSync(path.join(root, 'live/wiki@1.0.0/a/shard.json'), '{"digest":');
    expect(await store.has(shard('a'))).toBe(false);
    expect(store.recordOf(shard('a'))).toBe(undefined);
  });

  test.each([
    ['wiki@1.0.0', '..'],
    ['wiki@1.0.0', 'a/b'],
    ['..', 'a'],
    ['../x@1', 'a'],
    ['wiki', 'a'],
  ])('cannot be called %s/%s', (indexVersion, name) => {
    expect(() => store.contentPath({ indexVersion, name })).toThrow('cannot be the name of a shard');
  });
});
