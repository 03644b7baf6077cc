// The index versions that the mesh is to serve, in Consul. Every write is a check-and-set, so that two operators cannot
// undo each other's changes. Of a version, only the number of replicas, the pin and the times of its progress change.

import { KatamariError } from '../../core/mod.ts';
import type { ConsulClient, ConsulEntry } from '../consul/mod.ts';
import {
  ASSIGNMENT,
  HOLDINGS,
  INDEX,
  indexIdOf,
  indexPathOf,
  keysOf,
  manifestHash,
  readEntry,
  routeIn,
  type EventLog,
  type IndexRecord,
  type Keys,
  type ManifestRecord,
} from '../mesh/mod.ts';
import { ManifestStore } from './manifest-store.ts';

export interface IndexStoreOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
}

export class IndexStore {
  readonly #options: IndexStoreOptions;
  readonly #keys: Keys;
  readonly #manifests: ManifestStore;

  constructor(options: IndexStoreOptions) {
    this.#options = options;
    this.#manifests = new ManifestStore(options);
    this.#keys = keysOf(options.mesh);
  }

  /** All index versions with a valid document, by name, then in the order of their versions as text. */
  async list(): Promise<readonly IndexRecord[]> {
    const { entries } = await this.#options.client.list(this.#keys.indices);
    const records = entries.map((entry) => readEntry(INDEX, entry));
    return records
      .filter((record): record is IndexRecord => !(record instanceof Error))
      .sort((a, b) => (indexPathOf(a) < indexPathOf(b) ? -1 : 1));
  }

  async get(name: string, version: string): Promise<IndexRecord | undefined> {
    return (await this.#find(name, version))?.record;
  }

  /**
   * The documents of a version as they stand in Consul: its record, the list of its shards, and what each manager is
   * ordered to hold and says that it holds of it.
   * @throws KatamariError no_pool for an unknown version
   */
  async documents(name: string, version: string): Promise<readonly StoredDocument[]> {
    const { client } = this.#options;
    const keys = this.#keys;
    const entry = await client.get(this.#keyOf({ name, version }));
    if (entry === undefined) throw unknownIndex(name, version, await this.list());
    const record = readEntry(INDEX, entry);
    const manifest = record instanceof Error ? undefined : await client.get(`${keys.manifests}${record.manifest}`);
    const [orders, holdings] = await Promise.all([client.list(keys.assignments), client.list(keys.holdings)]);
    const id = `${name}@${version}`;
    return [
      { ...storedDocument(entry), ...(record instanceof Error ? { problem: record.message } : {}) },
      ...(manifest === undefined ? [] : [storedDocument(manifest)]),
      ...orders.entries.flatMap((one) => partOf(one, orderOf(one, id))),
      ...holdings.entries.flatMap((one) => partOf(one, holdingOf(one, id))),
    ];
  }

  /**
   * Writes the manifest, then the record. If this process ends in between, the leader deletes the manifest.
   * @throws KatamariError bad_request when another client was faster
   */
  async add(
    record: Omit<IndexRecord, 'manifest' | 'shards' | 'bytes'>,
    manifest: ManifestRecord,
  ): Promise<IndexRecord> {
    const { client, events } = this.#options;
    const { shards } = manifest;
    const text = manifestText(manifest);
    const bytes = Buffer.byteLength(text);
    if (bytes > MANIFEST_BYTES_MAX) {
      const why = `The list of the ${shards.length} shards has ${bytes} bytes, limit is ${MANIFEST_BYTES_MAX}; use fewer shards, or shorter names`;
      throw new KatamariError('bad_request', why);
    }
    const whole: IndexRecord = {
      ...record,
      routeIndex: routeIn(await client.get(this.#keys.routes + record.name))?.index ?? 0,
      manifest: manifestHash(text),
      shards: shards.length,
      bytes: shards.reduce((sum, shard) => sum + shard.bytes, 0),
    };
    await this.#write(whole, text);
    events.add('deployment_changed', indexIdOf(whole), `index added: ${shards.length} shards from ${whole.source}`);
    return whole;
  }

  /** Writes a list of shards. */
  async putManifest(manifest: ManifestRecord): Promise<void> {
    const text = manifestText(manifest);
    await this.#manifests.ensure(manifestHash(text), text);
  }

  /** @throws KatamariError no_pool for an unknown version, bad_request when other clients keep changing it */
  setReplicas(name: string, version: string, replicas: number): Promise<IndexRecord> {
    return this.#change(name, version, (record) =>
      record.replicas === replicas
        ? undefined
        : { next: { ...record, replicas }, text: `replicas ${record.replicas} -> ${replicas}` },
    );
  }

  /**
   * Keeps a version on these managers only; on any for an empty list.
   * @throws KatamariError no_pool for an unknown version, bad_request when other clients keep changing it
   */
  setPins(name: string, version: string, pinnedTo: readonly string[]): Promise<IndexRecord> {
    const pins = [...new Set(pinnedTo)].sort();
    return this.#change(name, version, (record) => {
      const { pinnedTo: before = [], ...rest } = record;
      if (before.join() === pins.join()) return undefined;
      if (pins.length === 0) return { next: rest, text: 'may be on any manager' };
      return { next: { ...rest, pinnedTo: pins }, text: `pinned to ${pins.join(', ')}` };
    });
  }

  /** Changes a record, again after a change of another client. @param change undefined leaves it */
  async #change(
    name: string,
    version: string,
    change: (record: IndexRecord) => { readonly next: IndexRecord; readonly text: string } | undefined,
  ): Promise<IndexRecord> {
    const { client, events } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const { record, modifyIndex } = await this.#known(name, version);
      const changed = change(record);
      if (changed === undefined) return record;
      const { next, text } = changed;
      if (!(await client.put(this.#keyOf(next), JSON.stringify(next), { cas: modifyIndex }))) continue;
      events.add('deployment_changed', indexIdOf(next), text);
      return next;
    }
    throw contention(`${name}@${version}`);
  }

  /** Offers a version before every shard was served. @throws KatamariError no_pool, bad_request */
  async setReady(name: string, version: string): Promise<void> {
    const { record, modifyIndex } = await this.#known(name, version);
    if (record.readyAtMs > 0) return;
    const ready = { ...record, readyAtMs: Date.now() };
    if (!(await this.#options.client.put(this.#keyOf(ready), JSON.stringify(ready), { cas: modifyIndex })))
      throw contention(indexIdOf(ready));
  }

  /** Removes the record, and the manifest if no other version has it. @throws KatamariError no_pool */
  async remove(name: string, version: string): Promise<void> {
    const { client, events } = this.#options;
    const { record, modifyIndex } = await this.#known(name, version);
    if (!(await client.delete(this.#keyOf(record), { cas: modifyIndex }))) throw contention(indexIdOf(record));
    events.add('deployment_changed', indexIdOf(record), 'index removed');
    await this.#deleteUnused(record.manifest);
  }

  /** Writes the record while its manifest is there. */
  async #write(record: IndexRecord, manifest: string): Promise<void> {
    const { client } = this.#options;
    const key = this.#keyOf(record);
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const index = await this.#manifests.ensure(record.manifest, manifest);
      const outcome = await client.transact([
        { verb: 'cas', key, value: JSON.stringify(record), index: 0 },
        { verb: 'check-index', key: this.#manifests.keyOf(record.manifest), index },
      ]);
      if (outcome.isDone) return;
      if (outcome.refused.some(({ at }) => at === 0)) break;
    }
    await this.#deleteUnused(record.manifest);
    throw contention(indexIdOf(record));
  }

  async #deleteUnused(manifest: string): Promise<void> {
    const { client } = this.#options;
    await this.#manifests.deleteUnused(manifest, (key, index) => client.delete(key, { cas: index }));
  }

  async #known(name: string, version: string): Promise<StoredIndex> {
    const found = await this.#find(name, version);
    if (found !== undefined) return found;
    throw unknownIndex(name, version, await this.list());
  }

  async #find(name: string, version: string): Promise<StoredIndex | undefined> {
    const entry = await this.#options.client.get(this.#keyOf({ name, version }));
    if (entry === undefined) return undefined;
    const record = readEntry(INDEX, entry);
    if (!(record instanceof Error)) return { record, modifyIndex: entry.modifyIndex };
    throw new KatamariError('bad_request', `The record of ${name}@${version} cannot be read: ${record.message}`);
  }

  #keyOf(record: Pick<IndexRecord, 'name' | 'version'>): string {
    return `${this.#keys.indices}${indexPathOf(record)}`;
  }
}

interface StoredIndex {
  readonly record: IndexRecord;
  readonly modifyIndex: number;
}

/** Struct StoredDocument of idl/indices.thrift. */
export interface StoredDocument {
  readonly key: string;
  readonly modifyIndex: number;
  readonly text: string;
  readonly problem: string;
}

function storedDocument({ key, modifyIndex, value, problem }: ConsulEntry): StoredDocument {
  return { key, modifyIndex, text: value, problem };
}

/** The part of a document that is about one version; none when it says nothing of it. */
function partOf(entry: ConsulEntry, part: object | undefined): StoredDocument[] {
  return part === undefined ? [] : [{ ...storedDocument(entry), text: JSON.stringify(part) }];
}

/** Without the deployments of the manager, which have nothing to do with the version and may hold secrets. */
function orderOf(entry: ConsulEntry, id: string): object | undefined {
  const order = readEntry(ASSIGNMENT, entry);
  if (order instanceof Error) return undefined;
  const shards = (order.shards ?? []).filter(({ indexVersion }) => indexVersion === id);
  return shards.length === 0 ? undefined : { term: order.term, leader: order.leader, shards };
}

function holdingOf(entry: ConsulEntry, id: string): object | undefined {
  const held = readEntry(HOLDINGS, entry);
  if (held instanceof Error) return undefined;
  const failed = held.failed.filter(({ indexVersion }) => indexVersion === id);
  const [serving, onDisk, manifest] = [held.serving[id], held.onDisk[id], held.manifests?.[id]];
  if (serving === undefined && onDisk === undefined && failed.length === 0) return undefined;
  return { serving, onDisk, manifest, failed, freeBytes: held.freeBytes };
}

/** The text of a manifest; its hash is its name. */
export function manifestText({ shards }: ManifestRecord): string {
  return JSON.stringify({ shards: shards.map(({ name, bytes, digest }) => ({ name, bytes, digest })) });
}

/** The error for an unknown version; it names those that exist. */
export function unknownIndex(name: string, version: string, known: readonly IndexRecord[]): KatamariError {
  const versions = known.filter((one) => one.name === name).map((one) => one.version);
  const names = [...new Set(known.map((one) => one.name))].slice(0, NAMES_SHOWN_MAX);
  const hint =
    versions.length > 0
      ? `its versions are ${versions.slice(0, NAMES_SHOWN_MAX).join(', ')}`
      : `indices are ${names.join(', ') || 'none'}`;
  return new KatamariError('no_pool', `There is no index ${name}${version === '' ? '' : `@${version}`}; ${hint}`);
}

function contention(id: string): KatamariError {
  return new KatamariError('bad_request', `${id} was changed by another client at the same time; try again`);
}

/** Consul accepts 512 KiB. */
const MANIFEST_BYTES_MAX = 500_000;
const ATTEMPTS_MAX = 10;
const NAMES_SHOWN_MAX = 20;
