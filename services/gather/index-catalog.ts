// The index versions of the mesh and their shards, as this process knows them: records from a watch of Consul, names of
// shards from manifests. While Consul is unreachable or has lost its data, the last known versions stay.

import { Backoff, type Clock, mustNotFail } from '../../core/mod.ts';
import { pause, watchPrefix, type ConsulClient, type ConsulWatch, type WatchStats } from '../consul/mod.ts';
import {
  INDEX,
  keysOf,
  readRecords,
  type EventLog,
  type IndexRecord,
  type ManifestCache,
  type Reachability,
  type RecordCache,
} from '../mesh/mod.ts';
import type { KnownIndex } from './shard-map.ts';

export interface IndexCatalogOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly manifests: ManifestCache;
  readonly events: EventLog;
  readonly reachability: Reachability;
  readonly clock: Clock;
  /** Called when versions or their shards have changed. */
  readonly onChange: () => void;
}

export class IndexCatalog {
  readonly #options: IndexCatalogOptions;
  readonly #end = new AbortController();
  readonly #cache: RecordCache<IndexRecord> = new Map();
  readonly #backoff: Backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random: Math.random });
  #watch: ConsulWatch | undefined;
  #records: ReadonlyMap<string, IndexRecord> = new Map();
  /** Versions whose manifest is known. */
  #indices: ReadonlyMap<string, KnownIndex> = new Map();
  /** Records that Consul has lost and not back yet. */
  #unrestored = new Map<string, IndexRecord>();
  /** Some of the lost records are back. */
  #isRestoring = false;
  #stopTimer: () => void = () => undefined;
  /** Ends the reading of manifests for older records. */
  #work = new AbortController();

  constructor(options: IndexCatalogOptions) {
    this.#options = options;
  }

  /** By `name@version`. */
  get records(): ReadonlyMap<string, IndexRecord> {
    return this.#records;
  }

  /** By `name@version`; without those whose manifest could not be read yet. */
  get indices(): ReadonlyMap<string, KnownIndex> {
    return this.#indices;
  }

  stats(): WatchStats | undefined {
    return this.#watch?.stats();
  }

  /** Loads the records of a snapshot, for a start without Consul. */
  loadSnapshot(records: ReadonlyMap<string, IndexRecord>): void {
    if (this.#records.size === 0) this.#set(records);
  }

  /** Resolves after the first response of Consul. */
  start(): Promise<void> {
    const { client, mesh, events, reachability, clock } = this.#options;
    const prefix = keysOf(mesh).indices;
    this.#watch = watchPrefix(
      client,
      prefix,
      (entries, { isAfterReset }) => {
        const found = readRecords(INDEX, prefix, entries, {
          cache: this.#cache,
          onInvalid: (name, error) => events.add('consul_lost', `indices/${name}`, `ignored: ${error.message}`),
        });
        const valid = [...entries.keys()].flatMap((key): [string, IndexRecord][] => {
          const name = key.slice(prefix.length);
          const one = found.get(name);
          // A record whose key names another version would replace that one.
          if (one !== undefined && name === keyOf(one)) return [[idOf(one), one]];
          // One that was damaged in Consul stays as it was.
          const before = this.#records.get(name.replace('/', '@'));
          return before === undefined ? [] : [[idOf(before), before]];
        });
        this.#takeWatched(new Map(valid), isAfterReset);
      },
      { signal: this.#end.signal, onAnswer: reachability.answered, onError: reachability.failed, clock },
    );
    return this.#watch.ready;
  }

  close(): void {
    this.#end.abort();
    this.#work.abort();
    this.#stopTimer();
  }

  /**
   * Takes the records of Consul. When it has lost its data, masters restore one record after the other: those that are
   * not back yet stay as they were.
   */
  #takeWatched(found: ReadonlyMap<string, IndexRecord>, isAfterReset: boolean): void {
    if (isAfterReset) this.#unrestored = new Map(this.#records);
    for (const id of found.keys()) this.#unrestored.delete(id);
    if (this.#unrestored.size === 0) this.#stopRestoring();
    else if (found.size > 0 && !this.#isRestoring) {
      this.#isRestoring = true;
      const stop = this.#options.clock.after(RESTORE_MS, () => {
        this.#stopRestoring();
        const left = [...this.#records].filter(([id]) => !this.#unrestored.has(id));
        this.#unrestored.clear();
        this.#set(new Map(left));
      });
      this.#stopTimer = stop;
    }
    this.#set(new Map([...this.#unrestored, ...found]));
  }

  #stopRestoring(): void {
    this.#isRestoring = false;
    this.#stopTimer();
  }

  #set(records: ReadonlyMap<string, IndexRecord>): void {
    this.#records = records;
    this.#work.abort();
    this.#work = new AbortController();
    this.#take();
    mustNotFail('the catalog of indices', this.#load(this.#work.signal));
  }

  /** Reads the manifests that are not known yet, until all are. */
  async #load(signal: AbortSignal): Promise<void> {
    const { manifests, clock } = this.#options;
    const read = new Map<string, readonly string[]>();
    while (!signal.aborted) {
      const left = [...this.#records.values()].filter((one) => !this.#isKnown(one) && !read.has(one.manifest));
      let hasFailed = false;
      for (let at = 0; at < left.length; at += READS_MAX) {
        const part = left.slice(at, at + READS_MAX);
        await Promise.all(
          part.map(async ({ manifest }) => {
            try {
              read.set(
                manifest,
                (await manifests.get(manifest, signal)).shards.map(({ name }) => name),
              );
            } catch {
              hasFailed = true;
            }
          }),
        );
        if (signal.aborted) return;
      }
      this.#take(read);
      if (!hasFailed) {
        this.#backoff.reset();
        const wanted = new Set([...this.#records.values()].map(({ manifest }) => manifest));
        return await manifests.keepOnly(wanted).catch(() => undefined);
      }
      await pause(clock, this.#backoff.next(), signal);
    }
  }

  #isKnown(record: IndexRecord): boolean {
    const known = this.#indices.get(idOf(record));
    return (
      known?.manifest === record.manifest &&
      known.contentService === record.contentService &&
      known.contentRange === record.contentRange
    );
  }

  #take(read: ReadonlyMap<string, readonly string[]> = new Map()): void {
    const next = new Map<string, KnownIndex>();
    for (const [id, record] of this.#records) {
      const { manifest, contentService, contentRange } = record;
      const shards = read.get(manifest);
      if (this.#isKnown(record)) next.set(id, this.#indices.get(id) as KnownIndex);
      else if (shards !== undefined) next.set(id, { id, manifest, shards, contentService, contentRange });
    }
    this.#indices = next;
    this.#options.onChange();
  }
}

export function idOf({ name, version }: Pick<IndexRecord, 'name' | 'version'>): string {
  return `${name}@${version}`;
}

function keyOf({ name, version }: IndexRecord): string {
  return `${name}/${version}`;
}

/** From the first record that is back, how long the others are waited for. */
const RESTORE_MS = 60_000;
const READS_MAX = 8;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;
