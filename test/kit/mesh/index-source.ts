// A folder of word shards for tests, and the records of an index version that an operator's command would write.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ConsulClient } from '../../../services/consul/mod.ts';
import { listSource } from '../../../services/content/fetch/source-listing.ts';
import { FileSource } from '../../../services/content/fetch/sources/file-source.ts';
import { keysOf, manifestHash, type IndexRecord, type ManifestRecord } from '../../../services/mesh/mod.ts';

/** Writes one shard for each text. */
export function writeWords(folder: string, texts: Readonly<Record<string, string>>): void {
  for (const [name, words] of Object.entries(texts)) {
    mkdirSync(path.join(folder, name), { recursive: true });
    writeFileSync(path.join(folder, name, 'words.txt'), words);
  }
}

/** Writes the documents of `name@version` to Consul; the name is `wiki` unless it is changed. */
export async function addIndex(
  client: ConsulClient,
  folder: string,
  version: string,
  change: Partial<IndexRecord> = {},
  mesh = 'test',
): Promise<void> {
  const keys = keysOf(mesh);
  const source = pathToFileURL(folder).href;
  const shards = (await listSource(source, new FileSource())).map(({ name, bytes, digest }) => ({
    name,
    bytes,
    digest,
  }));
  const manifest = JSON.stringify({ shards } satisfies ManifestRecord);
  const record: IndexRecord = {
    name: 'wiki',
    version,
    source,
    contentService: 'Words',
    contentRange: '^1',
    replicas: 1,
    promoteAtReplicas: 1,
    manifest: manifestHash(manifest),
    shards: shards.length,
    bytes: shards.reduce((sum, { bytes }) => sum + bytes, 0),
    by: 'the test',
    atMs: Date.now(),
    readyAtMs: 0,
    promotedAtMs: 0,
    ...change,
  };
  await client.put(`${keys.manifests}${manifestHash(manifest)}`, manifest);
  await client.put(`${keys.indices}${record.name}/${version}`, JSON.stringify(record));
}

/** The record of a version of `wiki` before its source was listed. */
export function newIndex(version: string): Omit<IndexRecord, 'manifest' | 'shards' | 'bytes'> {
  return {
    name: 'wiki',
    version,
    source: 'file:///srv/wiki',
    contentService: 'Words',
    contentRange: '',
    replicas: 1,
    promoteAtReplicas: 1,
    by: 'the test',
    atMs: 0,
    readyAtMs: 0,
    promotedAtMs: 0,
  };
}
