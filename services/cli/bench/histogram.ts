// Latencies of `katamari bench` in milliseconds, in an HdrHistogram of microseconds: any number of values in about
// 90 KB, every percentile with three significant digits. Values above 35 minutes count as 35 minutes.

import { Int32Histogram } from 'hdr-histogram-js';

export class LatencyHistogram {
  readonly #us = new Int32Histogram(1, US_MAX, DIGITS);

  get count(): number {
    return this.#us.totalCount;
  }

  get maxMs(): number {
    return this.#us.maxValue / US;
  }

  get meanMs(): number {
    return this.count === 0 ? 0 : this.#us.mean / US;
  }

  record(ms: number): void {
    this.#us.recordValue(microseconds(ms));
  }

  /** Returns a percentile in ms; 0 if there are no values. */
  percentileMs(percent: number): number {
    // The library returns the end of a bucket, which may exceed the maximum.
    return this.count === 0 ? 0 : Math.min(this.maxMs, this.#us.getValueAtPercentile(percent) / US);
  }

  /** Returns the number of values up to this one. */
  countUpTo(ms: number): number {
    const last = this.#us.countsArrayIndex(microseconds(ms));
    let count = 0;
    for (let index = 0; index <= last; index++) count += this.#us.getCountAtIndex(index);
    return count;
  }

  add(other: LatencyHistogram): void {
    if (other.count > 0) this.#us.add(other.#us);
  }

  clear(): void {
    this.#us.reset();
  }
}

function microseconds(ms: number): number {
  return Math.min(US_MAX, Math.max(1, Math.round(ms * US)));
}

const US = 1_000;
const US_MAX = 2 ** 31 - 1;
const DIGITS = 3;
