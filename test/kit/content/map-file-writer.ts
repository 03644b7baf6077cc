// Writes Hadoop MapFiles for tests, as Hadoop's MapFile.Writer does: sync marks, index entries at new positions only,
// the index packed in blocks. Keys and values are given as content and serialized here.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { Random } from '../tools/random.ts';

const IO = 'org.apache.hadoop.io.';
const COMPRESS = `${IO}compress.`;

export interface MapFileStyle {
  /** Short names of classes, or whole ones with dots. */
  readonly keyClass: string;
  readonly valueClass: string;
  readonly compression: 'NONE' | 'RECORD' | 'BLOCK';
  /** Short name, or a whole one with dots. */
  readonly codec: string;
  readonly indexInterval: number;
  /** Bytes of keys and values of a block. */
  readonly blockBytes: number;
  /** Bytes between sync marks of files without blocks. */
  readonly syncEveryBytes: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Hadoop's defaults. */
const USUAL: MapFileStyle = {
  keyClass: 'Text',
  valueClass: 'Text',
  compression: 'NONE',
  codec: 'DefaultCodec',
  indexInterval: 128,
  blockBytes: 1_000_000,
  syncEveryBytes: 102_400,
  metadata: {},
};

export type Pair = readonly [key: Buffer, value: Buffer];

/** Writes `data` and `index` into a folder. The entries must be in order. */
export function writeMapFile(folder: string, entries: Iterable<Pair>, style: Partial<MapFileStyle> = {}): void {
  const { data, index } = mapFileBytes(entries, style);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'data'), data);
  writeFileSync(path.join(folder, 'index'), index);
}

/**
 * Returns the bytes of both files.
 * @param shift is added to the positions of the index
 */
export function mapFileBytes(
  entries: Iterable<Pair>,
  change: Partial<MapFileStyle> = {},
  shift = 0,
): { readonly data: Buffer; readonly index: Buffer } {
  const style = { ...USUAL, ...change };
  const data = new SequenceWriter(style, 1);
  const index = new SequenceWriter({ ...style, valueClass: 'LongWritable', compression: 'BLOCK' }, 2);
  let size = 0;
  let lastSize = Number.NEGATIVE_INFINITY;
  let lastPosition = -1;
  for (const [key, value] of entries) {
    const position = data.length;
    if (size >= lastSize + style.indexInterval && position > lastPosition) {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64BE(BigInt(position + shift));
      index.append(key, bytes);
      [lastPosition, lastSize] = [position, size];
    }
    data.append(key, value);
    size++;
  }
  return { data: data.finish(), index: index.finish() };
}

/** Keys or values gathered for a block. */
interface Gathered {
  lengths: Buffer[];
  bytes: Buffer[];
}

export class SequenceWriter {
  readonly #style: MapFileStyle;
  readonly #sync: Buffer;
  readonly #parts: Buffer[] = [];
  #keys: Gathered = { lengths: [], bytes: [] };
  #values: Gathered = { lengths: [], bytes: [] };
  #gathered = 0;
  #lastSync = 0;
  length = 0;

  constructor(style: MapFileStyle, seed: number) {
    this.#style = style;
    this.#sync = new Random(seed).bytes(16);
    const { compression, metadata } = style;
    this.#write(Buffer.from('SEQ\u0006', 'latin1'));
    this.#write(text(wholeName(style.keyClass, IO)));
    this.#write(text(wholeName(style.valueClass, IO)));
    this.#write(Buffer.of(compression === 'NONE' ? 0 : 1, compression === 'BLOCK' ? 1 : 0));
    if (compression !== 'NONE') this.#write(text(wholeName(style.codec, COMPRESS)));
    this.#write(int(Object.keys(metadata).length));
    for (const [name, value] of Object.entries(metadata)) this.#write(text(name), text(value));
    this.#write(this.#sync);
  }

  append(keyContent: Buffer, valueContent: Buffer): void {
    const { compression, codec, blockBytes, syncEveryBytes } = this.#style;
    const key = serialize(this.#style.keyClass, keyContent);
    const plain = serialize(this.#style.valueClass, valueContent);
    if (compression === 'BLOCK') {
      for (const [into, bytes] of [
        [this.#keys, key],
        [this.#values, plain],
      ] as const) {
        into.lengths.push(vint(bytes.length));
        into.bytes.push(bytes);
      }
      this.#gathered += key.length + plain.length;
      if (this.#gathered >= blockBytes) this.#endBlock();
      return;
    }
    const value = compression === 'RECORD' ? pack(codec, plain) : plain;
    if (this.length >= this.#lastSync + syncEveryBytes) this.sync();
    this.#write(int(key.length + value.length), int(key.length), key, value);
  }

  /** Writes a sync mark. */
  sync(): void {
    this.#write(int(-1), this.#sync);
    this.#lastSync = this.length;
  }

  finish(): Buffer {
    if (this.#keys.bytes.length > 0) this.#endBlock();
    return Buffer.concat(this.#parts);
  }

  #endBlock(): void {
    this.sync();
    this.#write(vint(this.#keys.bytes.length));
    for (const { lengths, bytes } of [this.#keys, this.#values]) {
      for (const part of [lengths, bytes]) {
        const packed = pack(this.#style.codec, Buffer.concat(part));
        this.#write(vint(packed.length), packed);
      }
    }
    this.#keys = { lengths: [], bytes: [] };
    this.#values = { lengths: [], bytes: [] };
    this.#gathered = 0;
  }

  #write(...parts: Buffer[]): void {
    for (const part of parts) {
      this.#parts.push(part);
      this.length += part.length;
    }
  }
}

function wholeName(name: string, prefix: string): string {
  return name.includes('.') ? name : `${prefix}${name}`;
}

function serialize(name: string, content: Buffer): Buffer {
  if (name === 'Text') return Buffer.concat([vint(content.length), content]);
  if (name === 'BytesWritable') return Buffer.concat([int(content.length), content]);
  return content;
}

export function pack(codec: string, bytes: Buffer): Buffer {
  if (codec === 'GzipCodec') return zlib.gzipSync(bytes);
  if (codec === 'ZStandardCodec')
    return (zlib as unknown as { zstdCompressSync: (bytes: Buffer) => Buffer }).zstdCompressSync(bytes);
  return zlib.deflateSync(bytes);
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([vint(bytes.length), bytes]);
}

/** Hadoop's WritableUtils.writeVLong. */
export function vint(value: number): Buffer {
  if (value >= -112 && value <= 127) return Buffer.of(value & 0xff);
  const magnitude = value < 0 ? -value - 1 : value;
  const bytes: number[] = [];
  for (let rest = magnitude; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Buffer.of(((value < 0 ? -120 : -112) - bytes.length) & 0xff, ...bytes);
}
