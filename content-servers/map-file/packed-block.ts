// Reads blocks: a sync mark, the number of records, and four packed parts: lengths of the keys, keys, lengths of the
// values, values. Each part has its packed length in front.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import type { PackCodec } from './codecs.ts';
import { SYNC_BYTES, SYNC_ESCAPE, type SequenceHeader } from './header.ts';
import type { MapFileLimits } from './limits.ts';
import type { PositionedFile } from './positioned-file.ts';
import type { SegmentParts } from './segment.ts';
import { lengthAt, vintSize } from './vint.ts';

/** A block of a file, not unpacked. */
interface BlockPlan {
  readonly count: number;
  /** Packed parts in order: position in the file, and bytes. */
  readonly parts: readonly { readonly position: number; readonly bytes: number }[];
  readonly end: number;
}

/** Bytes of the largest vint that is a length. */
const LENGTH_BYTES_MAX = 5;
const PARTS = 4;

export class BlockReader {
  readonly #file: PositionedFile;
  readonly #header: SequenceHeader;
  readonly #codec: PackCodec;
  readonly #limits: MapFileLimits;

  constructor(file: PositionedFile, header: SequenceHeader, codec: PackCodec, limits: MapFileLimits) {
    this.#file = file;
    this.#header = header;
    this.#codec = codec;
    this.#limits = limits;
  }

  /** Reads and unpacks the block at `position`. Throws DamagedShard. */
  async read(position: number, limit: number): Promise<SegmentParts> {
    const window = new FileWindow(this.#file, limit, this.#limits.pageBytes);
    const { count, parts, end } = await this.#plan(window, position);
    const unpacked: Buffer[] = [];
    for (const part of parts) {
      const packed = await window.bytes(part.position, part.bytes, 'a part of a block');
      unpacked.push(await this.#codec.unpack(packed, this.#limits.partBytesMax));
    }
    const [keyLengths, keys, valueLengths, values] = unpacked.map(fitted) as [Buffer, Buffer, Buffer, Buffer];
    const keyEnds = endsOf(keyLengths, count, keys.length, 'keys');
    const valueEnds = endsOf(valueLengths, count, values.length, 'values');
    const [keyStarts, valueStarts] = [startsOf(keyEnds), startsOf(valueEnds)];
    return { count, keys, keyStarts, keyEnds, values, valueStarts, valueEnds, far: undefined, start: position, end };
  }

  /** Reads how many records the block at `position` has, and where it ends. */
  async measure(position: number, limit: number): Promise<{ readonly count: number; readonly end: number }> {
    return await this.#plan(new FileWindow(this.#file, limit, MEASURE_BYTES), position);
  }

  async #plan(window: FileWindow, position: number): Promise<BlockPlan> {
    const mark = await window.bytes(position, 4 + SYNC_BYTES, 'a sync mark');
    if (mark.readInt32BE(0) !== SYNC_ESCAPE || !mark.subarray(4).equals(this.#header.sync))
      throw new DamagedShard('no block starts here: a sync mark is expected');
    let at = position + 4 + SYNC_BYTES;
    const takeLength = async (): Promise<number> => {
      const bytes = await window.upTo(at, LENGTH_BYTES_MAX);
      const length = lengthAt(bytes, 0, bytes.length);
      at += vintSize(bytes[0] as number);
      return length;
    };
    const count = await takeLength();
    const { blockRecordsMax, partBytesMax } = this.#limits;
    if (count === 0 || count > blockRecordsMax)
      throw new DamagedShard(`a block has ${count} records, expected 1 to ${blockRecordsMax}`);
    const parts: { position: number; bytes: number }[] = [];
    while (parts.length < PARTS) {
      const bytes = await takeLength();
      if (bytes > partBytesMax)
        throw new DamagedShard(`a part of a block has ${bytes} packed bytes, at most ${partBytesMax} are read`);
      parts.push({ position: at, bytes });
      at += bytes;
      if (at > window.limit)
        throw new DamagedShard('a block reaches beyond the next entry of the index, or the end of the file');
    }
    return { count, parts, end: at };
  }
}

/** Reads a file forwards, through a buffer. No read goes beyond `limit`. */
class FileWindow {
  readonly limit: number;
  readonly #file: PositionedFile;
  readonly #readBytes: number;
  #start = 0;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(file: PositionedFile, limit: number, readBytes: number) {
    this.#file = file;
    this.limit = limit;
    this.#readBytes = readBytes;
  }

  /** Returns exactly `length` bytes. */
  async bytes(position: number, length: number, what: string): Promise<Buffer> {
    if (position + length > this.limit) throw new DamagedShard(`${what} is cut off`);
    const offset = position - this.#start;
    if (offset < 0 || offset + length > this.#bytes.length) {
      // A long part is read by itself, so that the buffer is not read twice.
      const wanted = Math.max(length, Math.min(this.#readBytes, this.limit - position));
      this.#bytes = await this.#file.read(position, wanted);
      this.#start = position;
    }
    return this.#bytes.subarray(position - this.#start, position - this.#start + length);
  }

  /** Returns `length` bytes, fewer at the limit. */
  async upTo(position: number, length: number): Promise<Buffer> {
    return await this.bytes(position, Math.max(0, Math.min(length, this.limit - position)), 'a length');
  }
}

/** A copy of what is only a small part of its memory, as the end of a stream can be. Blocks stay in memory. */
function fitted(bytes: Buffer): Buffer {
  return bytes.length * 2 < bytes.buffer.byteLength ? Buffer.from(bytes) : bytes;
}

/** Adds up lengths. Throws DamagedShard when they are not `count`, or not as long as the bytes that they divide. */
function endsOf(lengths: Buffer, count: number, bytes: number, what: string): Uint32Array {
  if (lengths.length < count) throw new DamagedShard(`a block has ${count} records, and fewer lengths of ${what}`);
  const ends = new Uint32Array(count);
  let at = 0;
  let end = 0;
  for (let i = 0; i < count; i++) {
    end += lengthAt(lengths, at, lengths.length);
    if (end > bytes) break;
    at += vintSize(lengths[at] as number);
    ends[i] = end;
  }
  if (at !== lengths.length || end !== bytes)
    throw new DamagedShard(`the lengths of the ${what} of a block do not fit its ${bytes} bytes`);
  return ends;
}

function startsOf(ends: Uint32Array): Uint32Array {
  const starts = new Uint32Array(ends.length);
  starts.set(ends.subarray(0, -1), 1);
  return starts;
}

/** Bytes per read when only lengths are read. */
const MEASURE_BYTES = 4096;
