// Intervals of comparisons: defined for any counts, in order, narrower with more calls; and verdicts in words.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LogHistogram } from '../../../core/rpc/mod.ts';
import { logGamma } from '../../../services/verdict/log-gamma.ts';
import * as sliced from '../../../services/verdict/mod.ts';
import {
  atOnce,
  compareMeans,
  type HitCount,
  inSlices,
  quantileBounds,
  quantilesDiffer,
  ratesDiffer,
  type ValueSums,
} from '../../../services/verdict/mod.ts';
import { Random } from '../../kit/tools/random.ts';
import { drawHits, logNormal, partOf } from './draws.ts';

/** The same, done at once. */
const whole =
  <Args extends unknown[], Result>(work: (...args: Args) => sliced.Slices<Result>) =>
  (...args: Args): Result =>
    atOnce(work(...args));
const compareRates = whole(sliced.compareRates);
const compareQuantiles = whole(sliced.compareQuantiles);
const judgeRates = whole(sliced.judgeRates);
const judgeMeans = whole(sliced.judgeMeans);
const judgeQuantiles = whole(sliced.judgeQuantiles);

const options = { alpha: 0.05 };
const hits = (calls: number, count: number): HitCount => ({ calls, hits: count });
const valuesOf = (values: readonly number[]): ValueSums => ({
  count: values.length,
  sum: values.reduce((sum, value) => sum + value, 0),
  sumOfSquares: values.reduce((sum, value) => sum + value ** 2, 0),
});

function durations(random: Random, count: number, factor = 1): LogHistogram {
  const histogram = new LogHistogram();
  for (let i = 0; i < count; i++) histogram.record(factor * logNormal(random, 10, 1));
  return histogram;
}

const anyHits = fc
  .tuple(fc.oneof(fc.nat(5), fc.nat(1_000), fc.nat(10_000_000)), fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([calls, part]) => hits(calls, Math.round(calls * part ** 4)));

describe('compareRates()', () => {
  test('returns an interval around the estimate for any counts, and sees a difference if it excludes 0', () => {
    fc.assert(
      fc.property(anyHits, anyHits, (first, second) => {
        const { low, high, isDifferent } = compareRates(first, second, options);
        expect(low).toBeGreaterThanOrEqual(-1);
        expect(high).toBeLessThanOrEqual(1);
        expect(isDifferent).toBe(low > 0 || high < 0);
        expect(isDifferent).toBe(ratesDiffer(first, second, options));
        if (first.calls === 0 || second.calls === 0) {
          expect([low, high]).toEqual([-1, 1]);
          return;
        }
        const difference = second.hits / second.calls - first.hits / first.calls;
        expect(low).toBeLessThanOrEqual(difference);
        expect(high).toBeGreaterThanOrEqual(difference);
      }),
      { numRuns: 60, examples: [[hits(296, 0), hits(2, 2)]] },
    );
  });

  test('returns the opposite interval for the versions in the other order', () => {
    for (const [first, second] of [
      [hits(1_000, 10), hits(1_000, 40)],
      [hits(9_500, 90), hits(500, 2)],
      [hits(10_000_000, 1_000), hits(10_000_000, 1_200)],
    ] as const) {
      const one = compareRates(first, second, options);
      const other = compareRates(second, first, options);
      expect(other.low / -one.high).toBeCloseTo(1, 1);
      expect(other.high / -one.low).toBeCloseTo(1, 1);
    }
  });

  test('returns a narrower interval for ten times the calls, and a wider one for a smaller alpha', () => {
    for (const [first, second] of [
      [hits(1_000, 10), hits(1_000, 30)],
      [hits(1_900, 2), hits(100, 1)],
      [hits(1_000, 500), hits(1_000, 500)],
      [hits(100, 0), hits(100, 0)],
      [hits(100, 100), hits(100, 100)],
    ] as const) {
      const width = (times: number, alpha: number): number => {
        const [one, other] = [first, second].map(({ calls, hits: count }) => hits(calls * times, count * times));
        const { low, high } = compareRates(one as HitCount, other as HitCount, { alpha });
        return high - low;
      };
      expect(width(10, 0.05)).toBeLessThan(width(1, 0.05));
      expect(width(1, 0.005)).toBeGreaterThan(width(1, 0.05));
    }
  });

  test('is about as wide as 3.4 standard errors to each side for 10,000 calls of each version', () => {
    const { low, high } = compareRates(hits(10_000, 1_000), hits(10_000, 1_000), options);
    const error = Math.sqrt((2 * 0.1 * 0.9) / 10_000);
    expect((high - low) / 2 / error).toBeGreaterThan(3);
    expect((high - low) / 2 / error).toBeLessThan(4);
  });

  test('has the true difference in its interval at all looks in at least 95 % of runs, also with few hits', () => {
    const random = new Random(7);
    for (const [first, second, share] of [
      [0.01, 0.03, 0.5],
      [0.002, 0.0005, 0.5],
      [0.3, 0.1, 0.05],
    ] as const) {
      const missed = partOf(40, () => {
        const [one, other] = [
          { calls: 0, hits: 0 },
          { calls: 0, hits: 0 },
        ];
        for (let look = 1; look <= 4; look++) {
          const step = 200 * look;
          const ofSecond = Math.round(step * share);
          one.hits += drawHits(random, step - ofSecond, first);
          other.hits += drawHits(random, ofSecond, second);
          one.calls += step - ofSecond;
          other.calls += ofSecond;
          const { low, high } = compareRates(one, other, options);
          if (second - first < low || second - first > high) return true;
        }
        return false;
      });
      expect(missed).toBeLessThanOrEqual(0.05);
    }
  });

  test('sees that one version always fails and the other never does, after few calls', () => {
    expect(ratesDiffer(hits(1, 0), hits(1, 1), options)).toBe(false);
    expect(ratesDiffer(hits(10, 0), hits(10, 10), options)).toBe(true);
    expect(compareRates(hits(1e7, 0), hits(1e7, 1e7), options)).toMatchObject({ high: 1, isDifferent: true });
  });
});

describe('compareQuantiles()', () => {
  test('returns an interval around the ratio of the estimates, and sees a difference if it excludes 1', () => {
    const random = new Random(11);
    for (const [one, other, factor] of [
      [1, 1, 1],
      [40, 3, 1],
      [2_000, 2_000, 1],
      [2_000, 2_000, 2],
      [5_000, 250, 0.5],
    ] as const) {
      const [first, second] = [durations(random, one), durations(random, other, factor)];
      for (const q of [0.5, 0.9, 0.99]) {
        const { low, high, isDifferent, ...estimates } = compareQuantiles(first, second, q, options);
        expect(low).toBeLessThanOrEqual(estimates.second / estimates.first);
        expect(high).toBeGreaterThanOrEqual(estimates.second / estimates.first);
        expect(isDifferent).toBe(low > 1 || high < 1);
        expect(isDifferent).toBe(quantilesDiffer(first, second, q, options));
      }
    }
  });

  test('has no bounds without values, and no upper bound of p99 for few values', () => {
    const [none, few] = [new LogHistogram(), durations(new Random(1), 50)];
    const open = { low: 0, high: Number.POSITIVE_INFINITY, isDifferent: false };
    expect(compareQuantiles(none, few, 0.5, options)).toMatchObject(open);
    expect(compareQuantiles(few, few, 0.99, options)).toMatchObject(open);
    expect(quantileBounds(none, 0.5, 0.05)).toEqual({ lowMs: 0, highMs: Number.POSITIVE_INFINITY });
    expect(quantileBounds(few, 0.99, 0.05).highMs).toBe(Number.POSITIVE_INFINITY);
  });

  test('bounds a quantile that is the same value for all calls to its bucket, and its ratio to both buckets', () => {
    const histogram = new LogHistogram();
    for (let i = 0; i < 5_000; i++) histogram.record(20);
    const { lowMs, highMs } = quantileBounds(histogram, 0.9, 0.05);
    expect(lowMs).toBeLessThan(20);
    expect(highMs).toBeGreaterThan(20);
    expect(highMs / lowMs).toBeLessThan(1.04);
    const { low, high } = compareQuantiles(histogram, histogram, 0.9, options);
    expect(low).toBeGreaterThan(0.95);
    expect(high).toBeLessThan(1.05);
  });

  test('has the true ratio in its interval at all looks in at least 95 % of runs', () => {
    const random = new Random(13);
    for (const q of [0.5, 0.95]) {
      const missed = partOf(20, () => {
        const [first, second] = [new LogHistogram(), new LogHistogram()];
        for (let look = 1; look <= 3; look++) {
          first.add(durations(random, 100 * look));
          second.add(durations(random, 20 * look, 1.5));
          const { low, high } = compareQuantiles(first, second, q, options);
          if (low > 1.5 || high < 1.5) return true;
        }
        return false;
      });
      expect(missed).toBeLessThanOrEqual(0.05);
    }
  });
});

describe('compareMeans()', () => {
  test('returns an interval around the difference from 30 values of each version on, and none before', () => {
    const random = new Random(17);
    const some = (count: number): ValueSums => valuesOf(Array.from({ length: count }, () => logNormal(random, 1, 1)));
    for (const [one, other] of [
      [0, 0],
      [1, 1],
      [29, 1_000],
    ] as const) {
      const { low, high, isDifferent } = compareMeans(some(one), some(other), 0.05);
      expect([low, high, isDifferent]).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, false]);
    }
    const { first, second, low, high } = compareMeans(some(3_000), some(200), 0.05);
    expect(low).toBeLessThan(second - first);
    expect(high).toBeGreaterThan(second - first);
  });

  test('sees a difference between two constants', () => {
    const constant = (value: number): ValueSums => ({ count: 40, sum: 40 * value, sumOfSquares: 40 * value ** 2 });
    expect(compareMeans(constant(1), constant(1), 0.05).isDifferent).toBe(false);
    expect(compareMeans(constant(1), constant(5), 0.05).isDifferent).toBe(true);
  });
});

describe('A verdict in words', () => {
  const errors = { first: '1.0.0', second: '2.0.0', higher: 'fails more often', lower: 'fails less often' };
  const p99 = { first: '1.0.0', second: '2.0.0', higher: 'is slower at p99', lower: 'is faster at p99' };
  const score = {
    first: '1.0.0',
    second: '2.0.0',
    higher: 'has a higher mean of score',
    lower: 'has a lower mean of score',
  };

  test('says which version fails more often, and by how many points', () => {
    expect(judgeRates(hits(10_000, 120), hits(10_000, 310), errors, options).text).toBe(
      '2.0.0 fails more often: 3.1 % against 1.2 % (difference 1.2 to 2.7 points, 95 %)',
    );
    expect(judgeRates(hits(10_000, 310), hits(10_000, 120), errors, { alpha: 0.01 }).text).toMatch(
      /^2\.0\.0 fails less often: 1\.2 % against 3\.1 % \(difference 1\.\d to 2\.\d points, 99 %\)$/,
    );
  });

  test('has as many digits as a small difference needs', () => {
    expect(judgeRates(hits(1e7, 1_000), hits(1e7, 1_300), errors, options).text).toMatch(
      /^2\.0\.0 fails more often: 0\.0130 % against 0\.0100 % \(difference 0\.001\d to 0\.004\d points, 95 %\)$/,
    );
  });

  test('says how many more calls would show a difference, if none is seen', () => {
    const { text, required } = judgeRates(hits(10_000, 120), hits(10_000, 121), errors, options);
    expect(text).toMatch(/^no difference to be seen yet; \d\d,000 more calls would show one of 0\.3 points$/);
    expect(required?.difference).toBe(0.003);
  });

  test('says of which version there are no calls', () => {
    expect(judgeRates(hits(10, 0), hits(0, 0), errors, options)).toMatchObject({ text: 'no calls of 2.0.0 yet' });
    expect(judgeQuantiles(new LogHistogram(), new LogHistogram(), 0.5, p99, options).text).toBe(
      'no calls of 1.0.0 and 2.0.0 yet',
    );
  });

  test('says which version is slower, and how many times', () => {
    const random = new Random(5);
    const [fast, slow] = [durations(random, 5_000), durations(random, 5_000, 3)];
    const times = String.raw`\(\d\.\d+ to \d\.\d+ times, 95 %\)$`;
    expect(judgeQuantiles(fast, slow, 0.99, p99, options).text).toMatch(
      new RegExp(String.raw`^2\.0\.0 is slower at p99: \d+ ms against \d+ ms ${times}`),
    );
    expect(judgeQuantiles(slow, fast, 0.99, p99, options).text).toMatch(
      /^2\.0\.0 is faster at p99: .*\(0\.\d+ to 0\.\d+/,
    );
    expect(judgeQuantiles(fast, fast, 0.99, p99, options).text).toMatch(
      /^no difference to be seen yet; [\d,]+ more calls would show one of \d+ %$/,
    );
  });

  test('says which version has the higher mean', () => {
    const values = Array.from({ length: 4_000 }, (_, i) => 3 + (i % 5) / 2);
    const [low, high] = [valuesOf(values), valuesOf(values.map((value) => value + 0.3))];
    expect(judgeMeans(low, high, score, options).text).toBe(
      '2.0.0 has a higher mean of score: 4.300 against 4.000 (difference 0.251 to 0.349, 95 %)',
    );
    expect(judgeMeans(low, low, score, options).text).toMatch(
      /^no difference to be seen yet; [\d,]+ more values would show one of 0\.03$/,
    );
    expect(judgeMeans(valuesOf([1]), valuesOf([2]), score, options).text).toBe('no difference to be seen yet');
  });

  test('asks for so many calls that the difference is seen in most runs', () => {
    const { required } = judgeRates(hits(2_000, 100), hits(2_000, 100), errors, options);
    const { difference, more } = required ?? { difference: 0, more: 0 };
    const calls = Math.round((4_000 + more) / 2);
    const random = new Random(3);
    const seen = partOf(200, () => {
      const first = hits(calls, drawHits(random, calls, 0.05 - difference / 2));
      const second = hits(calls, drawHits(random, calls, 0.05 + difference / 2));
      return ratesDiffer(first, second, options);
    });
    expect(seen).toBeGreaterThan(0.7);
    expect(seen).toBeLessThan(0.95);
  });

  test('asks for so many calls that a longer median is seen in most runs', () => {
    const random = new Random(23);
    const { required } = judgeQuantiles(durations(random, 2_000), durations(random, 2_000), 0.5, p99, options);
    const { difference, more } = required ?? { difference: 0, more: 0 };
    const calls = Math.round((4_000 + more) / 2);
    const seen = partOf(50, () =>
      quantilesDiffer(durations(random, calls), durations(random, calls, 1 + difference), 0.5, options),
    );
    expect(seen).toBeGreaterThan(0.6);
    expect(seen).toBeLessThan(0.99);
  });
});

describe('logGamma()', () => {
  test('is the logarithm of the factorial', () => {
    let sum = 0;
    for (let n = 1; n <= 200; n++) {
      sum += Math.log(n);
      expect(logGamma(n + 1)).toBeCloseTo(sum, 9);
    }
    expect(logGamma(0.5)).toBeCloseTo(Math.log(Math.sqrt(Math.PI)), 10);
  });
});

describe('A verdict in slices', () => {
  test('is the same, and other work of the process goes on meanwhile', async () => {
    const random = new Random(20_262);
    const [fast, slow] = [durations(random, 20_000), durations(random, 20_000)];
    const latency = { first: '1.0.0', second: '2.0.0', higher: 'is slower', lower: 'is faster' };
    let turns = 0;
    const count = (): void => {
      turns++;
      timer = setImmediate(count);
    };
    let timer = setImmediate(count);
    const verdict = await inSlices(sliced.judgeQuantiles(fast, slow, 0.5, latency, options));
    clearImmediate(timer);
    expect(verdict).toEqual(judgeQuantiles(fast, slow, 0.5, latency, options));
    expect(turns).toBeGreaterThan(2);
  });
});
