// The test data of Katta in a whole mesh: its Lucene 3 index and its map file are added, and have the answers that
// Katta's own tests expect. Skipped where the data are absent; KATTA_DATA names their folder.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { LUCENE_BUILD_MS, luceneCommand } from '../kit/tools/lucene.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { until } from '../kit/tools/wait.ts';

interface Found {
  readonly total: number;
  readonly hits: readonly { readonly shard: string; readonly fields: Readonly<Record<string, unknown>> }[];
  readonly coverage: object;
}

interface Entries {
  readonly entries: readonly { readonly shard: string; readonly key: string; readonly value: string }[];
  readonly coverage: object;
}

const KATTA = process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data');
const WHOLE = { shards: 4, complete: 4, missing: [] };
/** Every entry of the map file: its shard and its value, by key. */
const ENTRIES: Readonly<Record<string, readonly [string, string]>> = {
  'a.txt': ['a1', 'This is a test'],
  'b.xml': ['a1', '<name>test</name>'],
  'c.log': ['a1', '1/1/2009: test'],
  'd.html': ['a2', '<b>test</b>'],
  'e.txt': ['a2', 'An e test'],
  'f.log': ['a2', '1/2/2009: test2'],
  'g.log': ['a3', '1/3/2009: more test'],
  'h.txt': ['a3', 'Test in part 3'],
  'i.xml': ['a4', '<i>test</i>'],
  'j.log': ['a4', '1/4/2009: 4 test'],
  'k.out': ['a4', 'test data'],
  'l.txt': ['a4', 'line 4'],
};
const CALLERS = 15;
const GETS = 300;

describe.skipIf(!existsSync(KATTA))("Katta's test data (skipped without KATTA_DATA)", () => {
  let folder: string;
  let mesh: MeshProcess | undefined;
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'katamari-katta-'));
    const mapFile = scriptCommand(path.join(REPOSITORY, 'content-servers/map-file/main.ts'));
    mesh = await startMeshProcess({
      directory: folder,
      settings: { timeout: '20s', content: { sources: [pathToFileURL(KATTA).href] } },
      deployments: [
        work({ service: 'Lucene3', command: [...(await luceneCommand('lucene3'))], count: 1 }),
        work({ service: 'MapFileLookup', command: mapFile, count: 2 }),
      ],
    });
    const secret = readFileSync(path.join(folder, 'data/link-secret'), 'utf8').trim();
    const consul = consulClient({
      address: mesh.addresses.consul,
      token: mesh.consulToken,
      signer: documentSigner('test', () => [secret]),
    });
    await addIndex(consul, path.join(KATTA, 'testIndexA'), '1.0.0', { name: 'pages', contentService: 'Lucene3' });
    await addIndex(consul, path.join(KATTA, 'testMapFileA'), '1.0.0', {
      name: 'files',
      contentService: 'MapFileLookup',
    });
    await until('the pages to be served', async () => (await ask('pages.count', { query: 'the' })) !== undefined);
    await until('the files to be served', async () => (await get('none')) !== undefined);
  }, LUCENE_BUILD_MS);
  afterAll(async () => {
    await mesh?.end();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Undefined if the call fails. */
  const ask = async (method: string, params: object): Promise<unknown> =>
    (await mesh?.call(method, { ...params }))?.result;
  const get = async (key: string): Promise<Entries | undefined> =>
    (await ask('files.get', { key: Buffer.from(key).toString('base64') })) as Entries | undefined;

  test('count 937 pages with a word, and find ten with the fields that were asked for', async () => {
    expect(await ask('pages.count', { query: 'content:the' })).toBe(937);
    const fields = ['path', 'category'];
    const { total, hits, coverage } = (await ask('pages.search', { query: 'content:the', count: 10, fields })) as Found;
    expect([total, hits.length]).toEqual([937, 10]);
    expect(coverage).toMatchObject(WHOLE);
    for (const { shard, fields: stored } of hits) {
      expect(shard).toBe('pages@1.0.0/dIndex');
      expect(Object.keys(stored).sort()).toEqual(['category', 'path']);
    }
  });

  test('have every entry of the map file, and none for other keys', async () => {
    for (const [key, [shard, value]] of Object.entries(ENTRIES)) {
      const found = await get(key);
      const [entry] = found?.entries ?? [];
      expect([entry?.shard, Buffer.from(entry?.value ?? '', 'base64').toString()]).toEqual([
        `files@1.0.0/${shard}`,
        value,
      ]);
      expect(found?.entries.length).toBe(1);
      expect(found?.coverage).toMatchObject(WHOLE);
    }
    for (const key of ['', 'a', 'a.xml', 'zzz']) expect(await get(key)).toMatchObject({ entries: [], coverage: WHOLE });
  });

  test('give every one of many callers at once the right value', async () => {
    const keys = Object.keys(ENTRIES);
    const wrong: unknown[] = [];
    await Promise.all(
      Array.from({ length: CALLERS }, async (_, caller) => {
        for (let at = 0; at < GETS; at++) {
          const key = keys[(caller + at) % keys.length] as string;
          const found = await get(key);
          const values = found?.entries.map(({ value }) => Buffer.from(value, 'base64').toString());
          if (JSON.stringify(values) !== JSON.stringify([ENTRIES[key]?.[1]])) wrong.push([key, found]);
        }
      }),
    );
    expect(wrong).toEqual([]);
  });
});
