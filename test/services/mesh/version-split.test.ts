// How calls are split over versions: to within one call without keys, and with keys so that as few as possible move.

import { describe, expect, test } from 'vitest';
import { VersionSplit, VersionSplits } from '../../../services/mesh/version-split.ts';
import { Random } from '../../kit/tools/random.ts';

const seed = Math.floor(Math.random() * 2 ** 31);
const random = new Random(seed);
const KEYS = Array.from({ length: 100_000 }, (_, n) => `user-${n}`);

function splitOf(weights: Readonly<Record<string, number>>, { salt = 'Shop', phase = 0 } = {}): VersionSplit {
  return new VersionSplit(Object.keys(weights), Object.values(weights), salt, phase);
}

const versionsOf = (weights: Readonly<Record<string, number>>, salt = 'Shop'): readonly string[] => {
  const split = splitOf(weights, { salt });
  return KEYS.map((key) => split.of(key));
};

/** Moves between versions, `from -> to`, as shares of all keys. */
function movesOf(before: readonly string[], after: readonly string[]): Record<string, number> {
  const moves: Record<string, number> = {};
  before.forEach((from, at) => {
    const to = after[at] as string;
    if (from !== to) moves[`${from} -> ${to}`] = (moves[`${from} -> ${to}`] ?? 0) + 1 / before.length;
  });
  return moves;
}

describe('Calls without a key', () => {
  test(`give each version its share of any 1,000 calls, to within one call (seed ${seed})`, () => {
    for (let round = 0; round < 200; round++) {
      const weights = Object.fromEntries(
        Array.from({ length: random.between(2, 9) }, (_, n) => [
          `1.0.${n}`,
          random.between(1, random.pick([9, 1_000])),
        ]),
      );
      const split = splitOf(weights, { phase: random.between(0, 999) / 1_000 });
      const calls = Array.from({ length: 3_000 }, () => split.next());
      const sum = Object.values(weights).reduce((all, one) => all + one, 0);
      for (const [version, weight] of Object.entries(weights)) {
        let count = calls.slice(0, 1_000).filter((one) => one === version).length;
        let worst = 0;
        for (let from = 0; from < 2_000; from++) {
          worst = Math.max(worst, Math.abs(count - (1_000 * weight) / sum));
          count += Number(calls[from + 1_000] === version) - Number(calls[from] === version);
        }
        // In any run from the first call it is less than one, so between two of them less than two.
        expect(worst, JSON.stringify(weights)).toBeLessThan(2);
      }
    }
  });

  test('give versions with round shares exactly these, or one call more or less', () => {
    const split = splitOf({ a: 70, b: 20, c: 10 }, { phase: 0.37 });
    const calls = Array.from({ length: 10_000 }, () => split.next());
    for (let from = 0; from <= 9_000; from += 7) {
      const part = calls.slice(from, from + 1_000);
      const counts = ['a', 'b', 'c'].map((version) => part.filter((one) => one === version).length);
      expect(Math.abs((counts[0] as number) - 700)).toBeLessThanOrEqual(1);
      expect(Math.abs((counts[1] as number) - 200)).toBeLessThanOrEqual(1);
      expect(Math.abs((counts[2] as number) - 100)).toBeLessThanOrEqual(1);
    }
  });

  test('are split with weights of any size', () => {
    const split = splitOf({ a: 2 ** 31 - 1, b: 2 ** 31 - 1, c: 1 });
    const calls = Array.from({ length: 10_000 }, () => split.next());
    expect(calls.filter((one) => one === 'a').length).toBeGreaterThanOrEqual(4_999);
    expect(calls.filter((one) => one === 'b').length).toBeGreaterThanOrEqual(4_999);
  });

  test('go on in their pattern when the versions to choose of change for some calls', () => {
    const splits = new VersionSplits('Shop', () => 0);
    const counts = { a: 0, b: 0 };
    for (let n = 0; n < 1_000; n++) {
      counts[splits.get(['a', 'b'], [90, 10]).next() as 'a' | 'b']++;
      splits.get(['a', 'b', 'c'], [80, 10, 1 + (n % 7)]).next();
    }
    expect(counts).toEqual({ a: 900, b: 100 });
  });
});

describe('Calls with a key', () => {
  test('are split by weight', () => {
    const counts: Record<string, number> = {};
    for (const version of versionsOf({ a: 70, b: 20, c: 10 })) counts[version] = (counts[version] ?? 0) + 1;
    expect(counts['a']).toBeGreaterThan(69_400);
    expect(counts['a']).toBeLessThan(70_600);
    expect(counts['c']).toBeGreaterThan(9_600);
    expect(counts['c']).toBeLessThan(10_400);
  });

  test('move to a version that gets 20 % in place of 10 %, 10 % of them, and nowhere else', () => {
    const moves = movesOf(versionsOf({ a: 90, b: 10 }), versionsOf({ a: 80, b: 20 }));
    expect(Object.keys(moves)).toEqual(['a -> b']);
    expect(Math.abs((moves['a -> b'] as number) - 0.1)).toBeLessThan(0.005);
  });

  test('never move between versions whose weights have not changed', () => {
    const moves = movesOf(versionsOf({ a: 60, b: 10, c: 20, d: 10 }), versionsOf({ a: 50, b: 20, c: 20, d: 10 }));
    expect(Object.keys(moves)).not.toContain('c -> d');
    expect(Object.keys(moves)).not.toContain('d -> c');
    expect(moves['b -> a']).toBeUndefined();
  });

  test('move only to a version that is added', () => {
    const moves = movesOf(versionsOf({ a: 80, b: 20 }), versionsOf({ a: 80, b: 20, c: 25 }));
    expect(Object.keys(moves).sort()).toEqual(['a -> c', 'b -> c']);
    const moved = Object.values(moves).reduce((sum, one) => sum + one, 0);
    expect(Math.abs(moved - 0.2)).toBeLessThan(0.005);
  });

  test('are split independently of another experiment', () => {
    const [first, second] = [versionsOf({ a: 50, b: 50 }, 'price'), versionsOf({ a: 30, b: 70 }, 'colour')];
    const cells = new Map<string, number>();
    first.forEach((one, at) => {
      const cell = `${one}${second[at]}`;
      cells.set(cell, (cells.get(cell) ?? 0) + 1);
    });
    const shareOf = (versions: readonly string[], version: string): number =>
      versions.filter((one) => one === version).length / KEYS.length;
    let chiSquare = 0;
    for (const one of ['a', 'b'])
      for (const other of ['a', 'b']) {
        const expected = shareOf(first, one) * shareOf(second, other) * KEYS.length;
        chiSquare += ((cells.get(one + other) ?? 0) - expected) ** 2 / expected;
      }
    // One degree of freedom: above 10.8 in one of 1,000 independent pairs. The keys are fixed, and so is the result.
    expect(chiSquare).toBeLessThan(10.8);
  });
});
