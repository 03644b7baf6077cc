// A run of records in memory with their keys in order: a page of a file without blocks, or an unpacked block. It is
// checked when it is made, so look-ups in it check nothing.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import type { KeyClass } from './writable.ts';

/** Where keys and values are. Offsets are in `keys` and `values`, which may be the same bytes. */
export interface SegmentParts {
  readonly count: number;
  readonly keys: Buffer;
  /** Where serialized keys start. After `Segment` is made: where their content starts. */
  readonly keyStarts: Uint32Array;
  readonly keyEnds: Uint32Array;
  readonly values: Buffer;
  readonly valueStarts: Uint32Array;
  readonly valueEnds: Uint32Array;
  /** The value of the last record, when it is not in `values`: its place in the file, and its bytes. */
  readonly far: { readonly position: number; readonly bytes: number } | undefined;
  /** Position in the file: of the page, or of the block. */
  readonly start: number;
  /** Position in the file of what follows. */
  readonly end: number;
}

export class Segment {
  readonly parts: SegmentParts;
  readonly count: number;
  readonly end: number;
  /** Bytes of memory. */
  readonly bytes: number;
  readonly #keyClass: KeyClass;

  /** @throws DamagedShard when keys are not what their class says, or not in order */
  constructor(keyClass: KeyClass, parts: SegmentParts) {
    this.#keyClass = keyClass;
    this.parts = parts;
    this.count = parts.count;
    this.end = parts.end;
    const values = parts.values === parts.keys ? 0 : parts.values.length;
    this.bytes = OVERHEAD_BYTES + parts.keys.length + values + parts.count * 16;
    const { keys, keyStarts, keyEnds, count } = parts;
    for (let i = 0; i < count; i++) {
      keyStarts[i] = keyClass.contentStart(keys, keyStarts[i] as number, keyEnds[i] as number);
      if (i > 0 && this.#order(i - 1, keys, keyStarts[i] as number, keyEnds[i] as number) > 0)
        throw new DamagedShard(`keys are not in order: record ${i + 1} of ${count} comes before its predecessor`);
    }
  }

  /** Number of the first record whose key is not below `key`; `count` if there is none. */
  lowerBound(key: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#order(middle, key, 0, key.length) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  hasKey(record: number, key: Buffer): boolean {
    const { keyStarts, keyEnds } = this.parts;
    const length = (keyEnds[record] as number) - (keyStarts[record] as number);
    return length === key.length && this.#order(record, key, 0, length) === 0;
  }

  /** Content of a key. It shares the memory of the segment. */
  key(record: number): Buffer {
    return this.parts.keys.subarray(this.parts.keyStarts[record], this.parts.keyEnds[record]);
  }

  /** Whether the first key is below the last key of the segment before. */
  isBelow(before: Segment): boolean {
    if (this.count === 0 || before.count === 0) return false;
    const first = this.key(0);
    return before.#order(before.count - 1, first, 0, first.length) > 0;
  }

  #order(record: number, key: Buffer, start: number, end: number): number {
    const { keys, keyStarts, keyEnds } = this.parts;
    return this.#keyClass.compare(keys, keyStarts[record] as number, keyEnds[record] as number, key, start, end);
  }
}

/** Memory of the objects of a segment. */
const OVERHEAD_BYTES = 1_000;
