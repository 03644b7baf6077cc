// The scanner on random structs in every chunking, and on bytes that it must refuse.

import { describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import { StructScanner } from '../../../core/thrift/mod.ts';
import { isOneStruct, randomStruct } from '../../kit/interfaces/random-struct.ts';

const BYTES_MAX = 1 << 20;

describe('StructScanner.scan()', () => {
  test('finds the end of a struct, whatever surrounds it', () => {
    const random = new Random(1);
    const scanner = new StructScanner(64, BYTES_MAX);
    for (let i = 0; i < 2_000; i++) {
      const [before, struct, behind] = [
        random.bytes(random.below(9)),
        randomStruct(random),
        random.bytes(random.below(9)),
      ];
      const bytes = Buffer.concat([before, struct, behind]);
      scanner.reset();
      expect(scanner.scan(bytes, before.length, bytes.length), `seed 1, struct ${i}`).toBe(
        before.length + struct.length,
      );
    }
  });

  test('finds the same end byte by byte, and when cut anywhere', () => {
    const random = new Random(2);
    const scanner = new StructScanner(64, BYTES_MAX);
    for (let i = 0; i < 300; i++) {
      const struct = randomStruct(random);
      scanner.reset();
      for (let end = 0; end < struct.length; end++) expect(scanner.scan(struct, 0, end)).toBe(-1);
      expect(scanner.scan(struct, 0, struct.length)).toBe(struct.length);
      for (let cut = 0; cut < struct.length; cut++) {
        scanner.reset();
        expect(scanner.scan(struct, 0, cut), `seed 2, struct ${i} cut at ${cut}`).toBe(-1);
        expect(scanner.scan(struct, 0, struct.length), `seed 2, struct ${i} cut at ${cut}`).toBe(struct.length);
      }
    }
  });

  test('continues in another buffer that holds the same bytes at another offset', () => {
    const random = new Random(3);
    const scanner = new StructScanner(64, BYTES_MAX);
    for (let i = 0; i < 300; i++) {
      const struct = randomStruct(random);
      const cut = random.below(struct.length);
      scanner.reset();
      expect(scanner.scan(struct.subarray(0, cut), 0, cut)).toBe(-1);
      const moved = Buffer.concat([random.bytes(7), struct]);
      expect(scanner.scan(moved, 7, moved.length)).toBe(moved.length);
    }
  });

  test('agrees with a simple recursive reader on what is one whole struct', () => {
    const random = new Random(5);
    const scanner = new StructScanner(64, 4_096);
    const seen = { whole: 0, not: 0 };
    for (let i = 0; i < 20_000; i++) {
      const struct = randomStruct(random);
      for (let flips = random.below(3); flips > 0; flips--) struct[random.below(struct.length)] = random.below(256);
      const isWhole = isOneStruct(struct);
      seen[isWhole ? 'whole' : 'not']++;
      scanner.reset();
      let end = -1;
      try {
        end = scanner.scan(struct, 0, struct.length);
      } catch {
        // Refused: not whole.
      }
      if ((end === struct.length) !== isWhole)
        throw new Error(`seed 5, struct ${i}: scanner ends at ${end} of ${struct.toString('hex')}`);
    }
    expect(Math.min(seen.whole, seen.not)).toBeGreaterThan(1_000);
  });

  test('never reads past the given end, whatever the bytes are', () => {
    const random = new Random(4);
    const scanner = new StructScanner(64, 4_096);
    const seen = { ends: 0, waits: 0, refusals: 0 };
    for (let i = 0; i < 20_000; i++) {
      const struct = randomStruct(random);
      for (let flips = random.between(1, 4); flips > 0; flips--)
        struct[random.below(struct.length)] = random.below(256);
      scanner.reset();
      try {
        const end = scanner.scan(struct, 0, struct.length);
        expect(end).toBeLessThanOrEqual(struct.length);
        seen[end === -1 ? 'waits' : 'ends']++;
      } catch (error) {
        expect(['bad_request', 'too_large']).toContain((error as { code: string }).code);
        seen.refusals++;
      }
    }
    for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(100);
  });

  const refusals: readonly [what: string, hex: string, code: string, message: RegExp][] = [
    ['a type that does not exist', '05000100', 'bad_request', /Type 5 is not a Thrift type/],
    ['a negative string length', '0b0001ffffffff', 'bad_request', /size of -1 is declared/],
    ['a string longer than the limit', '0b000100200000', 'too_large', /limit is 1048576/],
    ['a negative list count', '0f000108ffffffff', 'bad_request', /size of -1 is declared/],
    ['a list that cannot fit', '0f00010a00100000', 'too_large', /limit is 1048576/],
    ['a list of empty structs that cannot fit', '0f00010c7fffffff', 'too_large', /limit is 1048576/],
    ['a map that cannot fit', '0d00010b0b00100000', 'too_large', /limit is 1048576/],
    ['a map of a type that does not exist', '0d00010b0700000001', 'bad_request', /Type 7 is not a Thrift type/],
    ['a list of a type that does not exist', '0f00010100000001', 'bad_request', /Type 1 is not a Thrift type/],
  ];
  for (const [what, hex, code, message] of refusals) {
    test(`refuses ${what}`, () => {
      const bytes = Buffer.from(hex, 'hex');
      const scanner = new StructScanner(64, BYTES_MAX);
      expect(() => scanner.scan(bytes, 0, bytes.length)).toThrow(message);
      scanner.reset();
      expect(() => scanner.scan(bytes, 0, bytes.length)).toThrow(expect.objectContaining({ code }) as Error);
    });
  }

  test('accepts nesting up to its limit and refuses one more level', () => {
    const scanner = new StructScanner(8, BYTES_MAX);
    expect(scanner.scan(nested(8), 0, nested(8).length)).toBe(nested(8).length);
    scanner.reset();
    expect(() => scanner.scan(nested(9), 0, nested(9).length)).toThrow(/nested deeper than 8/);
  });

  test('refuses a struct that grows past the limit field by field', () => {
    const scanner = new StructScanner(64, 100);
    const fields = Buffer.from('08000100000000'.repeat(20), 'hex');
    expect(() => scanner.scan(fields, 0, fields.length)).toThrow(/limit is 100/);
  });
});

/** A struct nested in structs, with this many levels in total. */
function nested(levels: number): Buffer {
  return Buffer.concat([Buffer.from('0c0001'.repeat(levels - 1), 'hex'), Buffer.alloc(levels)]);
}
