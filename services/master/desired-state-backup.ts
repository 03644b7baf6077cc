// Keeps a backup of the desired state (deployments, indices, routes, settings, drains) on this master's disk. A marker
// key in Consul shows that the data is there. If Consul loses its data, the marker is missing too; the next leader then
// writes everything back, and the marker last. While the marker is missing the backup is not updated, so an empty
// Consul does not empty it. Documents that are deleted while the marker exists are removed from the backup.
import { type Clock, replaceFile, reportDefect } from '../../core/mod.ts';
import {
  watchPrefix,
  type ChangeFacts,
  type ConsulClient,
  type ConsulEntry,
  type ConsulError,
  type ConsulWatch,
  type WatchedEntries,
} from '../consul/mod.ts';
import { idOfPath, keysOf, readRecord, type EventLog } from '../mesh/mod.ts';
import type { Election } from './election.ts';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

export interface DesiredStateBackupOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly onError: (error: ConsulError) => void;
  /** Called after the backup has changed. */
  readonly onChange: () => void;
  /** Called for each document that was written back to Consul. */
  readonly onRestored: (name: string, document: unknown) => void;
}

export class DesiredStateBackup {
  readonly #options: DesiredStateBackupOptions;
  readonly #file: string;
  readonly #marker: string;
  readonly #end = new AbortController();
  #watches: readonly ConsulWatch[] = [];
  /** The last response of the watch of each prefix: its Consul index, and values by key. */
  readonly #seen = new Map<string, { readonly index: number; readonly documents: ReadonlyMap<string, string> }>();
  #backup: ReadonlyMap<string, string> = new Map();
  #writes: Promise<void> = Promise.resolve();
  #stopBatch: (() => void) | undefined;

  constructor(options: DesiredStateBackupOptions) {
    this.#options = options;
    this.#file = path.join(options.dataDir, 'wanted.json');
    this.#marker = keysOf(options.mesh).begun;
  }

  /** Values of the backup by key. */
  get documents(): ReadonlyMap<string, string> {
    return this.#backup;
  }

  /** The rest of the keys of the backup that begin with a prefix. */
  namesBelow(prefix: string): string[] {
    return [...this.#backup.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  }

  /** Loads the backup from disk, then follows Consul. */
  async start(): Promise<void> {
    const { mesh } = this.#options;
    this.#backup = await this.#read();
    if (this.#end.signal.aborted) return;
    const { deployments, indices, manifests, drained, routes, settings } = keysOf(mesh);
    const prefixes = [deployments, indices, manifests, drained, routes, settings, this.#marker];
    this.#watches = prefixes.map((prefix) => this.#follow(prefix));
  }

  /**
   * Called by a new leader before it acts: writes the backup to Consul if the marker is missing.
   *
   * @returns false if this process no longer leads
   * @throws ConsulError
   */
  async restore(election: Election, term: number): Promise<boolean> {
    const { client, events, onRestored } = this.#options;
    const { signal } = this.#end;
    if ((await client.get(this.#marker, signal)) !== undefined) return true;
    const { manifests } = keysOf(this.#options.mesh);
    // Manifests come first, since indices name them. Their name is their hash, so a write needs no fence, and one of
    // 4,000 shards is too large for the transaction that a fence needs.
    for (const [key, value] of this.#backup)
      if (key.startsWith(manifests)) await client.put(key, value, { cas: 0, signal });
    for (const [key, value] of this.#backup) {
      if (key.startsWith(manifests)) continue;
      const outcome = await election.write(term, [{ verb: 'cas', key, value, index: 0 }], signal);
      if (outcome.kind === 'stale') return false;
      // On a conflict, the value that another client has written stays.
      if (outcome.kind === 'done') {
        events.add('deployment_changed', this.#nameOf(key), 'restored from backup: Consul lost its data');
        onRestored(this.#nameOf(key), documentOf(value));
      }
    }
    const value = JSON.stringify({ since: new Date().toISOString() });
    const outcome = await election.write(term, [{ verb: 'cas', key: this.#marker, value, index: 0 }], signal);
    return outcome.kind !== 'stale';
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.#stopBatch?.();
    await this.#writes;
  }

  #follow(prefix: string): ConsulWatch {
    const { client, clock, onError } = this.#options;
    const onEntries = (entries: WatchedEntries, { index }: Pick<ChangeFacts, 'index'>): void => {
      const valid = [...entries].flatMap(([key, { value, problem }]) => {
        // A document that somebody changed in Consul does not replace the last valid one.
        const text = problem === '' ? value : this.#backup.get(key);
        return text === undefined ? [] : [[key, text] as const];
      });
      this.#seen.set(prefix, { index, documents: new Map(valid) });
      this.#stopBatch ??= clock.after(BATCH_MS, () => {
        this.#stopBatch = undefined;
        this.#writes = this.#writes.then(() => this.#update()).catch(reportDefect);
      });
    };
    return watchPrefix(client, prefix, onEntries, { signal: this.#end.signal, clock, onError });
  }

  /**
   * Updates the backup. The marker is read after the documents: if Consul had lost its data in between, the marker
   * would be missing.
   */
  async #update(): Promise<void> {
    const { client, onError, events, mesh } = this.#options;
    if (this.#seen.size < this.#watches.length) return;
    const shown = new Map(this.#seen);
    let marker: ConsulEntry | undefined;
    try {
      marker = await client.get(this.#marker, this.#end.signal);
    } catch (error) {
      if (!this.#end.signal.aborted) onError(error as ConsulError);
      return;
    }
    if (marker === undefined) return;
    const seen = new Map<string, string>();
    for (const [prefix, { index, documents }] of shown) {
      // A watch that has shown nothing since the data were restored may lack documents: those of the backup stay.
      if (index < marker.createIndex)
        for (const [key, value] of this.#backup) if (key.startsWith(prefix)) seen.set(key, value);
      for (const [key, value] of documents) seen.set(key, value);
    }
    seen.delete(this.#marker);
    if (isEqual(seen, this.#backup)) return;
    this.#backup = seen;
    this.#options.onChange();
    try {
      await replaceFile(this.#file, JSON.stringify({ mesh, documents: Object.fromEntries(seen) }));
    } catch (error) {
      events.add(
        'consul_lost',
        this.#file,
        `cannot be written: ${(error as Error).message}; if Consul loses its data after a restart of this process, the desired state cannot be restored`,
      );
    }
  }

  async #read(): Promise<ReadonlyMap<string, string>> {
    const { events, mesh } = this.#options;
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        events.add('consul_lost', this.#file, `cannot be read: ${(error as Error).message}`);
      return new Map();
    }
    const saved = readRecord(SAVED, text);
    if (saved instanceof Error) events.add('consul_lost', this.#file, `is not used: ${saved.message}`);
    return saved instanceof Error || saved.mesh !== mesh ? new Map() : new Map(Object.entries(saved.documents));
  }

  /** Returns `Service@version` for a deployment, else the key without the prefix of the mesh. */
  #nameOf(key: string): string {
    const { prefix, deployments } = keysOf(this.#options.mesh);
    return key.startsWith(deployments) ? idOfPath(key.slice(deployments.length)) : key.slice(prefix.length);
  }
}

/** The document of a value; the value itself if it is no JSON. */
function documentOf(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function isEqual(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): boolean {
  return first.size === second.size && [...first].every(([key, value]) => second.get(key) === value);
}

interface Saved {
  readonly mesh: string;
  readonly documents: Readonly<Record<string, string>>;
}

const SAVED: z.ZodType<Saved> = z.object({ mesh: z.string(), documents: z.record(z.string(), z.string()) });
/** Changes within this time are written together. */
const BATCH_MS = 100;
