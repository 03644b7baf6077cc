// A SequenceFile: its header, and its records as segments from any position where a record or block starts.

import { CallRefused } from '../../chassis-sdk/typescript/mod.ts';
import { codecOf, type PackCodec } from './codecs.ts';
import { readHeader, type SequenceHeader } from './header.ts';
import type { MapFileLimits } from './limits.ts';
import { BlockReader } from './packed-block.ts';
import { PositionedFile } from './positioned-file.ts';
import { readPage } from './record-page.ts';
import { Segment } from './segment.ts';
import { type ContentStart, type KeyClass, keyClassOf, valueClassOf } from './writable.ts';

export class SequenceFile {
  readonly file: PositionedFile;
  readonly header: SequenceHeader;
  readonly keyClass: KeyClass;
  readonly codec: PackCodec | undefined;
  readonly #contentOf: ContentStart;
  readonly #limits: MapFileLimits;
  readonly #blocks: BlockReader | undefined;
  /** The codec of single values. */
  readonly #valueCodec: PackCodec | undefined;

  private constructor(file: PositionedFile, header: SequenceHeader, limits: MapFileLimits) {
    this.file = file;
    this.header = header;
    this.#limits = limits;
    this.keyClass = keyClassOf(header.keyClass);
    this.#contentOf = valueClassOf(header.valueClass);
    this.codec = header.compression === 'NONE' ? undefined : codecOf(header.codecClass);
    const hasBlocks = header.compression === 'BLOCK' && this.codec !== undefined;
    this.#blocks = hasBlocks ? new BlockReader(file, header, this.codec as PackCodec, limits) : undefined;
    this.#valueCodec = hasBlocks ? undefined : this.codec;
  }

  /** @throws DamagedShard; Error when the version, the key class or the codec cannot be read */
  static async open(path: string, limits: MapFileLimits): Promise<SequenceFile> {
    const file = await PositionedFile.open(path);
    try {
      const bytes = await file.read(0, Math.min(file.size, limits.headerBytesMax));
      return new SequenceFile(file, readHeader(bytes), limits);
    } catch (error) {
      await file.close();
      throw file.locate(0, error);
    }
  }

  /** Position of the first record or block. */
  get start(): number {
    return this.header.bytes;
  }

  get size(): number {
    return this.file.size;
  }

  /**
   * Reads the records from `position`: a block, or a page.
   * @param limit a position of the index, or the end of the file
   * @throws DamagedShard
   */
  async read(position: number, limit: number): Promise<Segment> {
    try {
      const parts =
        this.#blocks === undefined
          ? await readPage(this.file, this.header, this.#limits, position, limit)
          : await this.#blocks.read(position, limit);
      return new Segment(this.keyClass, parts);
    } catch (error) {
      throw this.file.locate(position, error);
    }
  }

  /** Counts the records of the block or page at `position`. A block is not unpacked. */
  async measure(position: number, limit: number): Promise<{ readonly count: number; readonly end: number }> {
    if (this.#blocks === undefined) return await this.read(position, limit);
    try {
      return await this.#blocks.measure(position, limit);
    } catch (error) {
      throw this.file.locate(position, error);
    }
  }

  /**
   * Returns the content of a value. It may share the memory of the segment.
   * @throws DamagedShard; CallRefused bad_request when it is too large for an answer
   */
  value({ parts }: Segment, record: number): Buffer | Promise<Buffer> {
    const { values, valueStarts, valueEnds, far, start, count } = parts;
    if (far !== undefined && record === count - 1) return this.#farValue(far);
    const from = valueStarts[record] as number;
    const end = valueEnds[record] as number;
    // A value of a block has no position of its own.
    const position = this.#blocks === undefined ? start + from : start;
    if (this.#valueCodec === undefined) return values.subarray(this.#contentStart(values, from, end, position), end);
    return this.#unpack(values.subarray(from, end), position);
  }

  async #farValue({ position, bytes }: { readonly position: number; readonly bytes: number }): Promise<Buffer> {
    const { valueBytesMax } = this.#limits;
    if (bytes > valueBytesMax) {
      const why = `The value at byte ${position} of ${this.file.name} has ${bytes} bytes`;
      throw new CallRefused('bad_request', `${why}, at most ${valueBytesMax} are served`);
    }
    const found = await this.file.read(position, bytes);
    if (this.#valueCodec !== undefined) return await this.#unpack(found, position);
    return found.subarray(this.#contentStart(found, 0, bytes, position));
  }

  #unpack(packed: Buffer, position: number): Buffer | Promise<Buffer> {
    const content = (found: Buffer): Buffer => found.subarray(this.#contentStart(found, 0, found.length, position));
    const unpacked = this.#located(position, () =>
      (this.#valueCodec as PackCodec).unpack(packed, this.#limits.valueBytesMax),
    );
    if (!(unpacked instanceof Promise)) return content(unpacked);
    return unpacked.then(content, (error: unknown) => {
      throw this.file.locate(position, error);
    });
  }

  #contentStart(bytes: Buffer, start: number, end: number, position: number): number {
    try {
      return this.#contentOf(bytes, start, end);
    } catch (error) {
      throw this.file.locate(position, error);
    }
  }

  #located<T>(position: number, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.file.locate(position, error);
    }
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
