// Strings from the cache equal those that the runtime decodes, even when entries collide.

import { array, assert, constantFrom, oneof, property, string, uint8Array } from 'fast-check';
import { readCachedString, writeCachedString } from '../../../core/thrift/mod.ts';
import { describe, expect, test } from 'vitest';
const SEED = Date.now() & 0x7fffffff;
const texts = oneof(
  string({ maxLength: 60 }),
  string({ unit: 'binary', maxLength: 60 }),
  // Many strings that differ little and share slots.
  constantFrom(...Array.from({ length: 3_000 }, (_, i) => `thrift 127.0.0.1:${30_000 + i}`)),
);

describe(`A short text (seed ${SEED})`, () => {
  test('is decoded as by the runtime, valid UTF-8 or not, the first time and later', () => {
    const bytes = oneof(
      uint8Array({ maxLength: 60 }),
      texts.map((text) => Buffer.from(text)),
    );
    assert(
      property(array(bytes, { maxLength: 50 }), (all) => {
        for (const one of [...all, ...all]) {
          const around = Buffer.concat([Buffer.from('xy'), one, Buffer.from('z')]);
          expect(readCachedString(around, 2, 2 + one.length)).toBe(Buffer.from(one).toString('utf8'));
        }
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  test('does not change when the bytes that it was read from do', () => {
    const bytes = Buffer.from('echo');
    expect(readCachedString(bytes, 0, 4)).toBe('echo');
    bytes.write('ouch');
    expect(readCachedString(Buffer.from('echo'), 0, 4)).toBe('echo');
    expect(readCachedString(bytes, 0, 4)).toBe('ouch');
  });

  test('is encoded as by the runtime, and nothing is written after it', () => {
    assert(
      property(texts, (text) => {
        const [own, other] = [Buffer.alloc(200, 7), Buffer.alloc(200, 7)];
        expect(writeCachedString(own, 3, text)).toBe(other.write(text, 3, 'utf8'));
        expect(own.equals(other)).toBe(true);
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });
});
