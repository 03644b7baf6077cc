// LogHistogram: precision of quantiles, sums and differences of histograms, and the sparse form.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DURATION_BUCKETS, LogHistogram } from '../../../core/rpc/mod.ts';

const durations = fc.array(fc.double({ min: 0.001, max: 1e7, noNaN: true }), { maxLength: 60 });

function histogramOf(values: readonly number[]): LogHistogram {
  const histogram = new LogHistogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

describe('LogHistogram', () => {
  test('returns quantiles within the bucket of the value, which is 1.1 % wide', () => {
    fc.assert(
      fc.property(durations, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, q) => {
        fc.pre(values.length > 0);
        const exact = values.toSorted((a, b) => a - b)[Math.ceil(q * values.length - 1e-9) - 1] as number;
        const ratio = histogramOf(values).quantileMs(q) / exact;
        expect(ratio).toBeGreaterThan(1 / 1.011);
        expect(ratio).toBeLessThan(1.011);
      }),
    );
  });

  test('has no quantile without values', () => {
    expect(new LogHistogram().quantileMs(0.5)).toBeNaN();
  });

  test('adds up to the histogram of all values, and gives an earlier one back', () => {
    fc.assert(
      fc.property(durations, durations, (before, after) => {
        const [earlier, sum] = [histogramOf(before), histogramOf(before)];
        sum.add(histogramOf(after));
        expect(sum.toSparse()).toEqual(histogramOf([...before, ...after]).toSparse());
        expect(sum.since(earlier).toSparse()).toEqual(histogramOf(after).toSparse());
        expect(sum.since(earlier).count).toBe(after.length);
      }),
    );
  });

  test('returns all values since a snapshot that has values which it lacks: its source has started anew', () => {
    const later = histogramOf([1, 2, 3]);
    expect(later.since(histogramOf([1, 50])).toSparse()).toEqual(later.toSparse());
  });

  test('is the same after its sparse form went through JSON', () => {
    fc.assert(
      fc.property(durations, (values) => {
        const sparse = histogramOf(values).toSparse();
        const read = LogHistogram.fromSparse(JSON.parse(JSON.stringify(sparse)) as number[]);
        expect(read.toSparse()).toEqual(sparse);
        expect(read.count).toBe(values.length);
      }),
    );
  });

  test('refuses a sparse form with a missing count, a fraction, a bucket too high or a step back', () => {
    for (const wrong of [[1], [1, 0.5], [1, -2], [DURATION_BUCKETS + 1, 1], [5, 1, 0, 1], [Number.NaN, 1]]) {
      expect(() => LogHistogram.fromSparse(wrong)).toThrow(/^Cannot read a histogram/);
    }
    expect(LogHistogram.fromSparse([DURATION_BUCKETS, 1]).count).toBe(1);
  });

  test('counts durations outside its range at the ends', () => {
    const histogram = histogramOf([0, -1, 1e-9, Number.NaN, 1e300, Number.POSITIVE_INFINITY]);
    expect([...histogram.buckets()]).toEqual([
      [0, 4],
      [DURATION_BUCKETS - 1, 2],
    ]);
  });
});
