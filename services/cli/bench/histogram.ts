// Latencies of `katamari bench` in milliseconds, kept as an HdrHistogram of microseconds: any number of them in some
// 90 KB, every percentile to three digits. What is longer than 35 minutes counts as that.

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

  /** So many percent of the latencies are this or less; 0 when there are none. */
  percentileMs(percent: number): number {
    // It names the end of a bucket, which may lie behind the longest of all.
    return this.count === 0 ? 0 : Math.min(this.maxMs, this.#us.getValueAtPercentile(percent) / US);
  }

  /** How many are this or less. */
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
