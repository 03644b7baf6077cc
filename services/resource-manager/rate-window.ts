// Call rate and latencies of a pool over the last ten seconds: copies the counters each second and subtracts the
// oldest copy on request.

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
  readonly #snapshots: CounterSample[] = [];
  #stop: () => void = () => undefined;

  constructor(stats: CallStats, clock: Clock) {
    this.#stats = stats;
    this.#clock = clock;
    this.#tick();
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

  close(): void {
    this.#stop();
  }

  #oldest(): CounterSample {
    return (
      this.#snapshots[0] ?? { atMs: this.#clock.nowMs(), accepted: this.#stats.accepted, total: EMPTY, queue: EMPTY }
    );
  }

  #tick(): void {
    const { accepted, total, queue } = this.#stats;
    this.#snapshots.push({ atMs: this.#clock.nowMs(), accepted, total: [...total.counts], queue: [...queue.counts] });
    if (this.#snapshots.length > WINDOW_S) this.#snapshots.shift();
    this.#stop = this.#clock.after(1000, () => this.#tick());
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
