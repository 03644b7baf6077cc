// A Hadoop MapFile: the SequenceFile `data` with its keys in order, and the SequenceFile `index`, which has every
// so-many-th key and its position. A look-up takes the last index entry below the key, and reads records from there
// until one is not below it.
//
// In a file with blocks the key of an index entry need not be the first of its block. So a look-up may go on into the
// block of the next entry, but never beyond it.

import type { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { type IndexTable, readIndex } from './index-table.ts';
import { MAP_FILE_LIMITS, type MapFileLimits } from './limits.ts';
import { countRecords, openFiles, readTail } from './open-checks.ts';
import type { SegmentCache } from './segment-cache.ts';
import type { Segment } from './segment.ts';
import type { SequenceFile } from './sequence-file.ts';
import { checkKey, shortName } from './writable.ts';

/** A value, or undefined when the key is not in the file; a promise of it when a file must be read. */
export type Found = Buffer | undefined | Promise<Buffer | undefined>;

export class MapFile {
  /** Number of records. */
  readonly entries: number;
  /** Facts for people. */
  readonly facts: Readonly<Record<string, string>>;
  readonly #data: SequenceFile;
  readonly #index: IndexTable;
  readonly #cache: SegmentCache;
  readonly #shard: number;

  private constructor(data: SequenceFile, index: IndexTable, cache: SegmentCache, entries: number, isExact: boolean) {
    this.#data = data;
    this.#index = index;
    this.#cache = cache;
    this.#shard = cache.newShard();
    this.entries = entries;
    const { compression, keyClass, valueClass } = data.header;
    this.facts = {
      format: 'Hadoop MapFile',
      keys: shortName(keyClass),
      values: shortName(valueClass),
      compression: data.codec === undefined ? compression : `${compression} ${data.codec.label}`,
      index: `${index.total} entries${index.stride > 1 ? `, each ${index.stride}th in memory` : ''}`,
      ...(isExact ? {} : { entries: 'estimated' }),
    };
  }

  /**
   * Opens the MapFile in a folder, and checks headers, index and the end of its data.
   * @throws DamagedShard; Error when it can be read by nobody, or not by this reader
   */
  static async open(folder: string, cache: SegmentCache, limits: MapFileLimits = MAP_FILE_LIMITS): Promise<MapFile> {
    const { data, index } = await openFiles(folder, limits);
    try {
      const table = await readIndex(index, data, limits);
      const tail = await readTail(data, table, limits);
      const { entries, isExact } = await countRecords(data, table, tail, limits);
      return new MapFile(data, table, cache, entries, isExact);
    } catch (error) {
      await data.close();
      throw error;
    } finally {
      await index.close();
    }
  }

  /**
   * Returns the value of the first record with this key.
   * @throws CallRefused bad_request for a key that the class of keys cannot have, or a value that is too large;
   *   DamagedShard. Both also as a rejection
   */
  find(key: Buffer): Found {
    checkKey(this.#data.keyClass, key);
    const entry = this.#index.lastBelow(key);
    const segment = this.#cache.get(this.#shard, this.#startOf(entry));
    if (segment !== undefined) {
      const record = segment.lowerBound(key);
      if (record < segment.count) return this.#valueAt(segment, record, key);
    }
    return this.#walk(key, entry);
  }

  /** Closes the file. The caller waits for its look-ups first. */
  async close(): Promise<void> {
    this.#cache.forget(this.#shard);
    await this.#data.close();
  }

  #valueAt(segment: Segment, record: number, key: Buffer): Found {
    return segment.hasKey(record, key) ? this.#data.value(segment, record) : undefined;
  }

  async #walk(key: Buffer, entry: number): Promise<Buffer | undefined> {
    let interval = entry;
    let before: Segment | undefined;
    let at = this.#startOf(entry);
    while (at < this.#data.size) {
      while (at === this.#endOf(interval)) interval++;
      const segment = await this.#load(at, interval);
      if (before !== undefined && segment.isBelow(before))
        throw this.#damaged(at, 'its keys are below those before it');
      const record = segment.lowerBound(key);
      if (record < segment.count) return await this.#valueAt(segment, record, key);
      if (interval > entry) throw this.#damaged(at, 'the key of its index entry is not here');
      before = segment;
      at = segment.end;
    }
    return undefined;
  }

  #load(at: number, interval: number): Promise<Segment> {
    return this.#cache.load(this.#shard, at, async () => {
      const segment = await this.#data.read(at, this.#endOf(interval));
      if (interval >= 0 && at === this.#startOf(interval)) {
        const key = this.#index.key(interval);
        const record = segment.lowerBound(key);
        if (record === segment.count || !segment.hasKey(record, key))
          throw this.#damaged(at, 'the key of its index entry is not here');
      }
      return segment;
    });
  }

  /** Where an interval of the index starts; that of number -1 is before the first entry. */
  #startOf(interval: number): number {
    return interval < 0 ? this.#data.start : this.#index.position(interval);
  }

  #endOf(interval: number): number {
    return interval + 1 < this.#index.count ? this.#index.position(interval + 1) : this.#data.size;
  }

  #damaged(at: number, what: string): DamagedShard {
    return this.#data.file.damaged(at, what);
  }
}
