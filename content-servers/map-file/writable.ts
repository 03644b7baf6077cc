// What the reader knows of Hadoop's Writable classes: where the content of a serialized key or value is, and how keys
// are ordered. Keys of other classes are refused, because their order is not known. Values of other classes are
// served as they are serialized.

import { CallRefused, DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { lengthAt, vintSize } from './vint.ts';

/**
 * Finds the content of a serialized value, which ends at `end`.
 * @returns where the content starts
 * @throws DamagedShard when the length in front of the content is not the length of the rest
 */
export type ContentStart = (bytes: Buffer, start: number, end: number) => number;

/** Compares two keys, given as their content: negative, 0 or positive. */
export type CompareKeys = (a: Buffer, aStart: number, aEnd: number, b: Buffer, bStart: number, bEnd: number) => number;

export interface KeyClass {
  readonly contentStart: ContentStart;
  readonly compare: CompareKeys;
  /** Bytes of every key; undefined when they differ. */
  readonly width: number | undefined;
}

const afterVint: ContentStart = (bytes, start, end) => {
  const length = lengthAt(bytes, start, end);
  const from = start + vintSize(bytes[start] as number);
  if (from + length !== end) throw wrongLength('Text', length, end - from);
  return from;
};

const afterInt: ContentStart = (bytes, start, end) => {
  if (start + 4 > end) throw new DamagedShard('a BytesWritable ends before its length');
  const length = bytes.readInt32BE(start);
  if (start + 4 + length !== end) throw wrongLength('BytesWritable', length, end - start - 4);
  return start + 4;
};

const all: ContentStart = (_, start) => start;

const none: ContentStart = (_, start, end) => {
  if (start !== end) throw wrongLength('NullWritable', 0, end - start);
  return start;
};

function wrongLength(name: string, length: number, found: number): DamagedShard {
  return new DamagedShard(`a ${name} has length ${length}, but ${found} bytes`);
}

/**
 * Compares bytes as unsigned numbers. A loop costs less than `Buffer.compare` for keys of usual length, and one runtime
 * checks the ranges of `Buffer.compare` against the wrong buffer.
 */
export const compareBytes: CompareKeys = (a, aStart, aEnd, b, bStart, bEnd) => {
  const shared = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < shared; i++) {
    const difference = (a[aStart + i] as number) - (b[bStart + i] as number);
    if (difference !== 0) return difference;
  }
  return aEnd - aStart - (bEnd - bStart);
};

/** Big endian numbers of one width: only the sign bit is not in the order of the bytes. */
const asSigned: CompareKeys = (a, aStart, aEnd, b, bStart, bEnd) => {
  const difference = ((a[aStart] as number) ^ 0x80) - ((b[bStart] as number) ^ 0x80);
  return difference === 0 ? compareBytes(a, aStart + 1, aEnd, b, bStart + 1, bEnd) : difference;
};

const ofWidth = (width: number, compare: CompareKeys): KeyClass => ({
  contentStart: (_, start, end) => {
    if (end - start !== width) throw new DamagedShard(`a key has ${end - start} bytes, its class has ${width}`);
    return start;
  },
  compare,
  width,
});

const IO = 'org.apache.hadoop.io.';
export const TEXT: string = `${IO}Text`;
export const LONG: string = `${IO}LongWritable`;

const KEY_CLASSES: ReadonlyMap<string, KeyClass> = new Map([
  [TEXT, { contentStart: afterVint, compare: compareBytes, width: undefined }],
  [`${IO}BytesWritable`, { contentStart: afterInt, compare: compareBytes, width: undefined }],
  [LONG, ofWidth(8, asSigned)],
  [`${IO}IntWritable`, ofWidth(4, asSigned)],
  [`${IO}ShortWritable`, ofWidth(2, asSigned)],
  [`${IO}ByteWritable`, ofWidth(1, asSigned)],
  [`${IO}MD5Hash`, ofWidth(16, compareBytes)],
]);

const VALUE_CLASSES: ReadonlyMap<string, ContentStart> = new Map([
  [TEXT, afterVint],
  [`${IO}BytesWritable`, afterInt],
  [`${IO}NullWritable`, none],
]);

/** Returns how to read keys of a class. Throws an Error that names the class if its order is not known. */
export function keyClassOf(name: string): KeyClass {
  const found = KEY_CLASSES.get(name);
  if (found !== undefined) return found;
  const known = [...KEY_CLASSES.keys()].map(shortName).join(', ');
  throw new Error(`Keys of class ${JSON.stringify(name)} cannot be looked up: their order is not known; use ${known}`);
}

/** Returns where the content of a value is. Values of unknown classes are content as a whole. */
export function valueClassOf(name: string): ContentStart {
  return VALUE_CLASSES.get(name) ?? all;
}

/**
 * Checks a key of a caller.
 * @throws CallRefused bad_request when no key of the class has this number of bytes
 */
export function checkKey({ width }: KeyClass, key: Uint8Array): void {
  if (width === undefined || key.length === width) return;
  const why = `The key has ${key.length} bytes; keys of this index are numbers or hashes of ${width} bytes, big endian`;
  throw new CallRefused('bad_request', why);
}

/** The name of a class without its package. */
export function shortName(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}
