// Manifests by SHA-256: read from the disk, else from Consul, and kept on the disk for a start without Consul. The hash
// is part of the signed assignment, so a manifest needs no signature of its own.

import { createHash } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile } from '../../core/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import { MANIFEST, type ManifestRecord } from './index-records.ts';
import { keysOf, readRecord } from './records.ts';

export interface ManifestCacheOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Folder for the files; '' for none. */
  readonly folder: string;
}

export class ManifestCache {
  readonly #options: ManifestCacheOptions;
  readonly #known = new Map<string, ManifestRecord>();

  constructor(options: ManifestCacheOptions) {
    this.#options = options;
  }

  /** Forgets all manifests but these, on the disk too. */
  async keepOnly(sha256s: ReadonlySet<string>): Promise<void> {
    for (const sha256 of this.#known.keys()) if (!sha256s.has(sha256)) this.#known.delete(sha256);
    const { folder } = this.#options;
    const files = folder === '' ? [] : await readdir(folder).catch(() => []);
    const old = files.filter((name) => name.endsWith('.json') && !sha256s.has(name.slice(0, -'.json'.length)));
    for (const name of old) await rm(path.join(folder, name), { force: true });
  }

  /**
   * @throws ConsulError when Consul does not answer; Error when it has no such manifest
   */
  async get(sha256: string, signal?: AbortSignal): Promise<ManifestRecord> {
    const known = this.#known.get(sha256);
    if (known !== undefined) return known;
    const { client, mesh, folder } = this.#options;
    const file = path.join(folder, `${sha256}.json`);
    const saved = folder === '' ? undefined : await readFile(file, 'utf8').catch(() => undefined);
    const text =
      saved !== undefined && manifestHash(saved) === sha256
        ? saved
        : (await client.get(`${keysOf(mesh).manifests}${sha256}`, signal))?.value;
    if (text === undefined || manifestHash(text) !== sha256)
      throw new Error(
        `the manifest ${sha256.slice(0, 12)} is not in Consul, or was changed there; add the index again`,
      );
    const manifest = readRecord(MANIFEST, text);
    if (manifest instanceof Error)
      throw new Error(`the manifest ${sha256.slice(0, 12)} is invalid: ${manifest.message}`);
    this.#known.set(sha256, manifest);
    // On a full disk the next start needs Consul; this one does not.
    if (folder !== '' && text !== saved) await replaceFile(file, text).catch(() => undefined);
    return manifest;
  }
}

/** SHA-256 of the text of a manifest: its name. */
export function manifestHash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
