// The header of a SequenceFile, version 6: `SEQ` and the version, key class, value class, two flags, the codec class if
// the file is compressed, metadata, and the 16 bytes that mark a place to synchronize.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { lengthAt, vintSize } from './vint.ts';

export interface SequenceHeader {
  readonly keyClass: string;
  readonly valueClass: string;
  /** How records are packed: not, each value by itself, or in blocks of many records. */
  readonly compression: 'NONE' | 'RECORD' | 'BLOCK';
  /** Class of the codec; '' for NONE. */
  readonly codecClass: string;
  /** The 16 bytes of a sync mark. */
  readonly sync: Buffer;
  /** Bytes of the header: where the first record or block starts. */
  readonly bytes: number;
}

/**
 * Reads a header from the first bytes of a file.
 * @throws DamagedShard; Error for a version that is not 6
 */
export function readHeader(bytes: Buffer): SequenceHeader {
  if (bytes.length < 4 || bytes.toString('latin1', 0, 3) !== 'SEQ') {
    const found = JSON.stringify(bytes.toString('latin1', 0, 4));
    throw new DamagedShard(`it is no SequenceFile: it starts with ${found}, expected "SEQ"`);
  }
  const version = bytes[3] as number;
  if (version !== VERSION) {
    throw new Error(
      `This SequenceFile has version ${version}, expected ${VERSION}; write it again with Hadoop 0.18 or later`,
    );
  }
  let at = 4;
  const take = (length: number, what: string): number => {
    if (length < 0 || at + length > bytes.length) throw new DamagedShard(`its header ends within ${what}`);
    at += length;
    return at - length;
  };
  const text = (what: string, bytesMax: number): string => {
    const length = lengthAt(bytes, at, bytes.length);
    take(vintSize(bytes[at] as number), what);
    if (length > bytesMax) throw new DamagedShard(`its header has ${length} bytes of ${what}, at most ${bytesMax}`);
    const start = take(length, what);
    return bytes.toString('utf8', start, at);
  };
  const flag = (what: string): boolean => {
    const byte = bytes[take(1, what)] as number;
    if (byte > 1) throw new DamagedShard(`its header has ${byte} as ${what}, expected 0 or 1`);
    return byte === 1;
  };
  const keyClass = text('key class', NAME_BYTES_MAX);
  const valueClass = text('value class', NAME_BYTES_MAX);
  const isPacked = flag('compression');
  const hasBlocks = flag('block compression');
  if (hasBlocks && !isPacked) throw new DamagedShard('its header says that it has blocks, and no compression');
  const codecClass = isPacked ? text('codec class', NAME_BYTES_MAX) : '';
  const pairs = bytes.readInt32BE(take(4, 'metadata'));
  if (pairs < 0) throw new DamagedShard(`its header has ${pairs} pairs of metadata`);
  for (let i = 0; i < pairs * 2; i++) text('metadata', bytes.length);
  const sync = Buffer.from(bytes.subarray(take(SYNC_BYTES, 'sync mark'), at));
  const compression = hasBlocks ? 'BLOCK' : isPacked ? 'RECORD' : 'NONE';
  return { keyClass, valueClass, compression, codecClass, sync, bytes: at };
}

/** Bytes of a sync mark. */
export const SYNC_BYTES = 16;
/** The length that announces a sync mark. */
export const SYNC_ESCAPE = -1;
const VERSION = 6;
const NAME_BYTES_MAX = 1024;
