// The index of a MapFile in memory: every so-many-th key, with the position of its record or block. The keys are packed
// into one buffer. When they need too much memory, every second entry is dropped: look-ups then read twice as many
// records.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import type { MapFileLimits } from './limits.ts';
import type { SequenceFile } from './sequence-file.ts';
import type { KeyClass } from './writable.ts';

/** A key of the index, and where it is in `data`. */
export interface IndexPoint {
  readonly key: Buffer;
  readonly position: number;
}

export class IndexTable {
  /** Entries in memory. */
  count = 0;
  /** Entries of the file with different positions. */
  total = 0;
  /** Every so-many-th entry is in memory. */
  stride = 1;
  /** The first two entries and the last one of the file. */
  first: IndexPoint | undefined;
  second: IndexPoint | undefined;
  last: IndexPoint | undefined;
  readonly #keyClass: KeyClass;
  readonly #keyBytesMax: number;
  #keys: Buffer = Buffer.alloc(4096);
  #keyEnds = new Uint32Array(128);
  #positions = new Float64Array(128);

  constructor(keyClass: KeyClass, keyBytesMax: number) {
    this.#keyClass = keyClass;
    this.#keyBytesMax = keyBytesMax;
  }

  /** Adds an entry that is behind all others. An entry with the position of the one before it adds nothing. */
  add(key: Buffer, position: number): void {
    if (this.last !== undefined && position === this.last.position) return;
    const point = { key: Buffer.from(key), position };
    if (this.total === 0) this.first = point;
    if (this.total === 1) this.second = point;
    this.last = point;
    const isKept = this.total++ % this.stride === 0;
    if (!isKept) return;
    while (this.count > 1 && this.#keysEnd + key.length > this.#keyBytesMax) this.#thin();
    if ((this.total - 1) % this.stride === 0) this.#append(key, position);
  }

  /** Gives back the memory that was reserved for more entries. */
  seal(): void {
    this.#keys = Buffer.from(this.#keys.subarray(0, this.#keysEnd));
    this.#keyEnds = this.#keyEnds.slice(0, this.count);
    this.#positions = this.#positions.slice(0, this.count);
  }

  position(entry: number): number {
    return this.#positions[entry] as number;
  }

  /** The key of an entry. It shares the memory of the table. */
  key(entry: number): Buffer {
    return this.#keys.subarray(this.#start(entry), this.#keyEnds[entry]);
  }

  /** Number of the last entry whose key is below `key`; -1 if there is none. */
  lastBelow(key: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const start = this.#start(middle);
      const end = this.#keyEnds[middle] as number;
      if (this.#keyClass.compare(this.#keys, start, end, key, 0, key.length) < 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  get #keysEnd(): number {
    return this.count === 0 ? 0 : (this.#keyEnds[this.count - 1] as number);
  }

  #start(entry: number): number {
    return entry === 0 ? 0 : (this.#keyEnds[entry - 1] as number);
  }

  #append(key: Buffer, position: number): void {
    const start = this.#keysEnd;
    const end = start + key.length;
    if (end > this.#keys.length) {
      const larger = Buffer.alloc(Math.max(end, this.#keys.length * 2));
      this.#keys.copy(larger, 0, 0, start);
      this.#keys = larger;
    }
    if (this.count === this.#keyEnds.length) {
      const [ends, positions] = [this.#keyEnds, this.#positions];
      this.#keyEnds = new Uint32Array(ends.length * 2);
      this.#keyEnds.set(ends);
      this.#positions = new Float64Array(positions.length * 2);
      this.#positions.set(positions);
    }
    key.copy(this.#keys, start);
    this.#keyEnds[this.count] = end;
    this.#positions[this.count++] = position;
  }

  /** Drops every second entry. The first one stays. */
  #thin(): void {
    const { count } = this;
    this.count = 0;
    for (let from = 0; from < count; from += 2) {
      const [start, end] = [this.#start(from), this.#keyEnds[from] as number];
      // The target is before the source, so no entry is overwritten before it has moved.
      const to = this.#keysEnd;
      this.#keys.copy(this.#keys, to, start, end);
      this.#keyEnds[this.count] = to + end - start;
      this.#positions[this.count++] = this.#positions[from] as number;
    }
    this.stride *= 2;
  }
}

/**
 * Reads an index file.
 * @param data the file that it is the index of
 * @throws DamagedShard when entries are not in order, or point to no record; Error when the file is too large
 */
export async function readIndex(index: SequenceFile, data: SequenceFile, limits: MapFileLimits): Promise<IndexTable> {
  const table = new IndexTable(data.keyClass, limits.indexBytesMax);
  let before: IndexPoint | undefined;
  let bytesRead = 0;
  for (let at = index.start; at < index.size;) {
    const segment = await index.read(at, index.size);
    bytesRead += segment.bytes;
    if (bytesRead > limits.indexFileBytesMax) {
      const why = `The file index has more than ${limits.indexFileBytesMax} bytes when it is unpacked, which is the limit`;
      throw new Error(`${why}; write the MapFile with a larger io.map.index.interval, or in more shards`);
    }
    for (let record = 0; record < segment.count; record++) {
      const key = segment.key(record);
      const position = positionOf(await index.value(segment, record));
      const where = (what: string): DamagedShard => index.file.damaged(at, `entry ${record + 1} of a segment ${what}`);
      if (before !== undefined && data.keyClass.compare(before.key, 0, before.key.length, key, 0, key.length) > 0)
        throw where('has a key below the key before it');
      if (before !== undefined && position < before.position)
        throw where(`has position ${position}, below ${before.position} of the entry before it`);
      if (!(position >= data.start && position < data.size))
        throw where(`has position ${position}, but data has its records from ${data.start} to ${data.size}`);
      table.add(key, position);
      before = { key, position };
    }
    at = segment.end;
  }
  table.seal();
  return table;
}

/** Reads a position; NaN for a number that no position can be. */
function positionOf(value: Buffer): number {
  if (value.length !== 8) return Number.NaN;
  return value.readInt32BE(0) * 2 ** 32 + value.readUInt32BE(4);
}
