// Hadoop's integers of variable length. The first byte is the value if it is at least -112. From -113 to -120, 1 to 8
// bytes of a positive number follow; from -121 to -128, those of a negative one. Every vint that the reader needs is a
// length or a count of Java's type int, so others are damage.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';

/** Largest length of Java's type int. */
const INT_MAX = 0x7fffffff;

/** Bytes of the vint whose first byte is given, from 0 to 255. */
export function vintSize(first: number): number {
  if (first < 0x80 || first >= 0x90) return 1;
  return first >= 0x88 ? 0x91 - first : 0x89 - first;
}

/**
 * Reads a length or a count. The next byte is at `at + vintSize(bytes[at])`.
 * @throws DamagedShard when it is cut off at `end`, negative, or above 2^31 - 1
 */
export function lengthAt(bytes: Uint8Array, at: number, end: number): number {
  const first = at < end ? (bytes[at] as number) : CUT_OFF;
  if (first < 0x80) return first;
  if (first === CUT_OFF) throw new DamagedShard('a length is cut off');
  const size = vintSize(first);
  // From 0x90 on the byte itself is a negative number; below 0x88 a negative number follows.
  if (first >= 0x90 || first < 0x88) throw new DamagedShard('a length is negative');
  if (size > 5) throw new DamagedShard(`a length has ${size - 1} bytes, at most 4 are possible`);
  if (at + size > end) throw new DamagedShard('a length is cut off');
  let value = 0;
  for (let i = at + 1; i < at + size; i++) value = value * 256 + (bytes[i] as number);
  if (value > INT_MAX) throw new DamagedShard(`a length is ${value}, at most ${INT_MAX} is possible`);
  return value;
}

const CUT_OFF = 256;
