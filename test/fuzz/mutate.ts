// Mutations of bytes that need no knowledge of what the bytes mean.

import type { Random } from '../kit/tools/random.ts';
import type { Ending } from './target.ts';

type Mutation = readonly [what: string, mutate: (random: Random, bytes: Buffer) => Buffer];

/** Returns the bytes, mutated half of the time, and what was done. */
export function mutated(random: Random, bytes: Buffer): { readonly what: string; readonly bytes: Buffer } {
  if (bytes.length === 0 || random.chance(0.5)) return { what: 'unchanged', bytes };
  const [what, mutate] = random.pick(MUTATIONS);
  return { what, bytes: mutate(random, bytes) };
}

export function flipped(random: Random, from: Buffer): Buffer {
  const bytes = Buffer.from(from);
  for (let flips = random.between(1, 5); flips > 0 && bytes.length > 0; flips--) {
    const at = random.below(bytes.length);
    bytes[at] = random.chance(0.5) ? random.below(256) : (bytes[at] as number) ^ (1 << random.below(8));
  }
  return bytes;
}

/** How an input leaves: mostly at once, sometimes in many small pieces. */
export function pieceBytesOf(random: Random, bytes: number): number {
  return random.chance(0.12) ? Math.max(random.between(1, 7), bytes >> 6) : 0;
}

/** Most inputs keep the connection, so that the next one meets the state that this one left. */
export function endingOf(random: Random): Ending {
  return random.chance(0.65) ? 'wait for an answer' : random.chance(0.4) ? 'break off' : 'end';
}

const MUTATIONS: readonly Mutation[] = [
  ['flipped bytes', flipped],
  ['flipped bytes again', flipped],
  ['cut short', (random, bytes) => bytes.subarray(0, random.below(bytes.length))],
  ['begins late', (random, bytes) => bytes.subarray(random.below(bytes.length))],
  [
    'bytes put in',
    (random, bytes) => {
      const at = random.below(bytes.length);
      return Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 40)), bytes.subarray(at)]);
    },
  ],
  [
    'bytes left out',
    (random, bytes) => {
      const at = random.below(bytes.length);
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.between(1, 20))]);
    },
  ],
  [
    'a part repeated',
    (random, bytes) => {
      const from = random.below(bytes.length);
      const part = bytes.subarray(from, from + random.between(1, 60));
      const times = random.pick([1, 2, 50]);
      return Buffer.concat([
        bytes.subarray(0, from),
        ...Array.from({ length: times }, () => part),
        bytes.subarray(from),
      ]);
    },
  ],
  ['sent again', (random, bytes) => Buffer.concat(Array.from({ length: random.between(2, 5) }, () => bytes))],
  [
    'a number that cannot be',
    (random, bytes) => {
      const copy = Buffer.from(bytes);
      const value = random.pick([-1, 0x7fffffff, -0x80000000, 1 << 24, (1 << 24) + 1, 65_536, 0]);
      if (copy.length >= 4) copy.writeInt32BE(value, random.below(copy.length - 3));
      return copy;
    },
  ],
  ['noise', (random) => random.bytes(random.between(1, 400))],
];
