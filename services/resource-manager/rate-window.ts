// Call rate and latencies of a pool over the last ten seconds: its owner has the counters copied each second, and the
// oldest copy is subtracted on request.

import type { Clock } from '../../core/mod.ts';
import { DURATION_BOUNDS_S, quantileOf, type CallStats } from '../../core/rpc/mod.ts';

interface CounterSample {
  readonly atMs: number;
  readonly accepted: number;
  readonly total: readonly number[];
  readonly queue: readonly number[];
}

export class RateWindow {
  readonly #stats: CallStats;
  readonly #clock: Clock;
  readonly #samples: CounterSample[] = [];

  constructor(stats: CallStats, clock: Clock) {
    this.#stats = stats;
    this.#clock = clock;
    this.sample();
  }

  /** Accepted calls per second. */
  ratePerS(): number {
    const old = this.#oldest();
    const seconds = (this.#clock.nowMs() - old.atMs) / 1000;
    return seconds < 0.1 ? 0 : (this.#stats.accepted - old.accepted) / seconds;
  }

  /** Quantile of the time from accepted to settled, in ms; null without calls. */
  totalMs(quantile: number): number | null {
    return milliseconds(quantileOf(difference(this.#stats.total.counts, this.#oldest().total), quantile));
  }

  /** Quantile of the time in the queue, in ms; null without calls. */
  queueMs(quantile: number): number | null {
    return milliseconds(quantileOf(difference(this.#stats.queue.counts, this.#oldest().queue), quantile));
  }

  /** Copies the counters. Call it each second. */
  sample(): void {
    const { accepted, total, queue } = this.#stats;
    this.#samples.push({ atMs: this.#clock.nowMs(), accepted, total: [...total.counts], queue: [...queue.counts] });
    if (this.#samples.length > WINDOW_S) this.#samples.shift();
  }

  #oldest(): CounterSample {
    return (
      this.#samples[0] ?? { atMs: this.#clock.nowMs(), accepted: this.#stats.accepted, total: EMPTY, queue: EMPTY }
    );
  }
}

function difference(now: readonly number[], then: readonly number[]): number[] {
  return now.map((count, bucket) => count - (then[bucket] ?? 0));
}

function milliseconds(seconds: number): number | null {
  return Number.isNaN(seconds) ? null : Math.round(seconds * 1e6) / 1e3;
}

const WINDOW_S = 10;
const EMPTY: readonly number[] = DURATION_BOUNDS_S.map(() => 0);
