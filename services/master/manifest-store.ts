// The lists of the shards of index versions in Consul, each under its hash, so versions with equal shards share one.
//
// The record of a version is written after its manifest, and a manifest that no record names is deleted. A manifest
// can be too large for a transaction, so a deletion takes three steps: mark the manifest, read the records, delete the
// manifest if its ModifyIndex is that of the mark. The record of a new version is written in a transaction that checks
// the ModifyIndex of its manifest, after any mark was taken off. A writer that was faster than the mark is seen by the
// deletion. A writer that was slower than the mark either fails and tries again, or makes the deletion fail. No step
// waits for a time, so a process that is frozen between two of them does no harm.

import { ConsulError, type ConsulClient } from '../consul/mod.ts';
import { INDEX, keysOf, readEntry, type Keys } from '../mesh/mod.ts';

export interface ManifestStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
}

/** Deletes a key if its ModifyIndex is `index`. Returns what became of it. */
export type DeleteAt<Outcome> = (key: string, index: number) => Promise<Outcome>;

export class ManifestStore {
  readonly #client: ConsulClient;
  readonly #keys: Keys;

  constructor({ client, mesh }: ManifestStoreOptions) {
    this.#client = client;
    this.#keys = keysOf(mesh);
  }

  keyOf(hash: string): string {
    return `${this.#keys.manifests}${hash}`;
  }

  /**
   * Makes sure that the manifest is there and not about to be deleted. Returns its ModifyIndex, for the transaction
   * that writes a record which names it.
   */
  async ensure(hash: string, text: string, signal?: AbortSignal): Promise<number> {
    const key = this.keyOf(hash);
    const options = signal === undefined ? {} : { signal };
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const entry = await this.#client.get(key, signal);
      if (entry?.flags === LIVE && entry.value === text) return entry.modifyIndex;
      await this.#client.put(key, text, { cas: entry?.modifyIndex ?? 0, flags: LIVE, ...options });
    }
    throw new ConsulError(`Cannot write ${key}: other clients keep changing it`, 0, false, undefined);
  }

  /**
   * Deletes a manifest that no record names.
   * @returns the outcome of `deleteAt`; undefined if the manifest is in use, unreadable, being changed, or not there
   */
  async deleteUnused<Outcome>(
    hash: string,
    deleteAt: DeleteAt<Outcome>,
    signal?: AbortSignal,
  ): Promise<Outcome | undefined> {
    const key = this.keyOf(hash);
    const options = signal === undefined ? {} : { signal };
    if (await this.#isUsed(hash, signal)) return undefined;
    let entry = await this.#client.get(key, signal);
    if (entry === undefined || entry.problem !== '') return undefined;
    if (entry.flags !== MARKED) {
      await this.#client.put(key, entry.value, { cas: entry.modifyIndex, flags: MARKED, ...options });
      entry = await this.#client.get(key, signal);
      if (entry?.flags !== MARKED) return undefined;
    }
    // From here on, nobody writes a record that names this manifest without changing its ModifyIndex first.
    if (await this.#isUsed(hash, signal)) return undefined;
    return await deleteAt(key, entry.modifyIndex);
  }

  /** Whether a record names the manifest. A record that cannot be read may name any. */
  async #isUsed(hash: string, signal?: AbortSignal): Promise<boolean> {
    const { entries } = await this.#client.list(this.#keys.indices, signal === undefined ? {} : { signal });
    return entries.some((entry) => {
      const record = readEntry(INDEX, entry);
      return record instanceof Error || record.manifest === hash;
    });
  }
}

/** Flags of a manifest in Consul. */
const LIVE = 0;
/** The manifest may be deleted. */
const MARKED = 1;
const ATTEMPTS_MAX = 10;
