// Keeps a backup of the desired state (deployments, indices, routes, rollouts, settings, drains) on this master's disk.
// A marker key in Consul shows that the data is there. If Consul loses its data, the marker is missing too; the next
// leader then writes everything back, and the marker last. While the marker is missing the backup is not updated, so an
// empty Consul does not empty it. Documents that are deleted while the marker exists are removed from the backup.
//
// The backup of a master that was down is old. So while the marker is missing, each master tells how new its backup is,
// and a leader lets the master with the newest one lead, which restores it.
import { type Clock, replaceFile, reportDefect } from '../../core/mod.ts';
import {
  pause,
  watchPrefix,
  type ChangeFacts,
  type ConsulClient,
  type ConsulEntry,
  type ConsulError,
  type ConsulWatch,
  type WatchedEntries,
} from '../consul/mod.ts';
import { BACKUP_REVISION, idOfPath, keysOf, readRecord, type BackupRevision, type EventLog } from '../mesh/mod.ts';
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
  /** Tells the other masters how new the backup is; undefined while Consul has the data. */
  readonly offer: (revision: BackupRevision | undefined) => void;
  /** Time after the election in which the other masters tell how new their backups are; 0 if there are none. */
  readonly othersMs: number;
}

export class DesiredStateBackup {
  readonly #options: DesiredStateBackupOptions;
  readonly #file: string;
  readonly #marker: string;
  readonly #end = new AbortController();
  #watches: readonly ConsulWatch[] = [];
  /** What each prefix had when it was seen last. */
  readonly #seen = new Map<string, SeenDocuments>();
  #backup: ReadonlyMap<string, string> = new Map();
  #revision: BackupRevision = NO_REVISION;
  /** Masters that were to restore theirs. One that did not is not waited for again. */
  readonly #yieldedTo = new Set<string>();
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
    await this.#read();
    if (this.#end.signal.aborted) return;
    const { deployments, indices, manifests, drained, routes, rollouts, settings } = keysOf(mesh);
    const prefixes = [deployments, indices, manifests, drained, routes, rollouts, settings, this.#marker];
    this.#watches = prefixes.map((prefix) => this.#follow(prefix));
  }

  /**
   * Called by a new leader before it acts: writes the backup to Consul if the marker is missing, or lets the master
   * lead that has a newer one.
   *
   * @returns false if this process no longer leads
   * @throws ConsulError
   */
  async restore(election: Election, term: number): Promise<boolean> {
    const { client, events, clock, othersMs, onRestored } = this.#options;
    const { signal } = this.#end;
    if ((await client.get(this.#marker, signal)) !== undefined) return true;
    if (othersMs > 0) {
      await pause(clock, othersMs, signal);
      const others = election.masters().filter(({ name }) => !this.#yieldedTo.has(name));
      const [newest] = others.sort((a, b) => (isNewer(a.backup, b.backup) ? -1 : 1));
      if (newest !== undefined && isNewer(newest.backup, this.#revision)) {
        events.add('consul_lost', 'backup', `that of ${newest.name} is newer: it leads and restores`);
        this.#yieldedTo.add(newest.name);
        await election.yieldTo(newest.name);
        return false;
      }
    }
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
      this.#seen.set(prefix, { index, documents: this.#documentsOf(entries.values()) });
      if (prefix === this.#marker) this.#offer(entries.size > 0);
      this.#stopBatch ??= clock.after(BATCH_MS, () => {
        this.#stopBatch = undefined;
        this.#writes = this.#writes.then(() => this.#update()).catch(reportDefect);
      });
    };
    return watchPrefix(client, prefix, onEntries, { signal: this.#end.signal, clock, onError });
  }

  #documentsOf(entries: Iterable<ConsulEntry>): ReadonlyMap<string, string> {
    const valid = [...entries].flatMap(({ key, value, problem }) => {
      // A document that somebody changed in Consul does not replace the last valid one.
      const text = problem === '' ? value : this.#backup.get(key);
      return text === undefined ? [] : [[key, text] as const];
    });
    return new Map(valid);
  }

  #offer(hasMarker: boolean): void {
    if (hasMarker) this.#yieldedTo.clear();
    this.#options.offer(hasMarker || this.#revision === NO_REVISION ? undefined : this.#revision);
  }

  /**
   * Updates the backup. The marker is read after the documents: if Consul had lost its data in between, the marker
   * would be missing.
   */
  async #update(): Promise<void> {
    const { client, onError, events, mesh } = this.#options;
    if (this.#seen.size < this.#watches.length) return;
    let marker: ConsulEntry | undefined;
    const shown = new Map(this.#seen);
    try {
      marker = await client.get(this.#marker, this.#end.signal);
      if (marker !== undefined) await this.#readAgain(shown, marker.createIndex);
    } catch (error) {
      if (!this.#end.signal.aborted) onError(error as ConsulError);
      return;
    }
    if (marker === undefined) return;
    const seen = new Map([...shown.values()].flatMap(({ documents }) => [...documents]));
    seen.delete(this.#marker);
    const { since = '' } = documentOf(marker.value) as { since?: string };
    this.#revision = { since, index: Math.max(...[...shown.values()].map(({ index }) => index)) };
    if (isEqual(seen, this.#backup)) return;
    this.#backup = seen;
    this.#options.onChange();
    try {
      const saved: Saved = { mesh, documents: Object.fromEntries(seen), revision: this.#revision };
      await replaceFile(this.#file, JSON.stringify(saved));
    } catch (error) {
      events.add(
        'consul_lost',
        this.#file,
        `cannot be written: ${(error as Error).message}; if Consul loses its data after a restart of this process, the desired state cannot be restored`,
      );
    }
  }

  /** Reads what a watch has not shown since the data were restored: it may lack documents, or have older ones. */
  async #readAgain(shown: Map<string, SeenDocuments>, restoredAt: number): Promise<void> {
    for (const [prefix, seen] of shown) {
      if (seen.index >= restoredAt) continue;
      const { entries } = await this.#options.client.list(prefix, { signal: this.#end.signal });
      const read: SeenDocuments = { index: restoredAt, documents: this.#documentsOf(entries) };
      shown.set(prefix, read);
      // What the watch has shown meanwhile may be newer.
      if (this.#seen.get(prefix) === seen) this.#seen.set(prefix, read);
    }
  }

  async #read(): Promise<void> {
    const { events, mesh } = this.#options;
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        events.add('consul_lost', this.#file, `cannot be read: ${(error as Error).message}`);
      return;
    }
    const saved = readRecord(SAVED, text);
    if (saved instanceof Error) events.add('consul_lost', this.#file, `is not used: ${saved.message}`);
    if (saved instanceof Error || saved.mesh !== mesh) return;
    this.#backup = new Map(Object.entries(saved.documents));
    // A file of an earlier version has no revision. It is newer than none.
    this.#revision = saved.revision ?? { since: '', index: Math.min(1, this.#backup.size) };
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

/** Whether a backup is newer than another one. */
function isNewer(one: BackupRevision = NO_REVISION, other: BackupRevision = NO_REVISION): boolean {
  return one.since === other.since ? one.index > other.index : one.since > other.since;
}

function isEqual(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): boolean {
  return first.size === second.size && [...first].every(([key, value]) => second.get(key) === value);
}

/** The documents under a prefix, by key, and the index of Consul then. */
interface SeenDocuments {
  readonly index: number;
  readonly documents: ReadonlyMap<string, string>;
}

interface Saved {
  readonly mesh: string;
  readonly documents: Readonly<Record<string, string>>;
  readonly revision?: BackupRevision | undefined;
}

const SAVED: z.ZodType<Saved> = z.object({
  mesh: z.string(),
  documents: z.record(z.string(), z.string()),
  revision: BACKUP_REVISION.optional(),
});
const NO_REVISION: BackupRevision = { since: '', index: 0 };
/** Changes within this time are written together. */
const BATCH_MS = 100;
