// Call statistics of a process. Every call is accepted once and settled once, so accepted calls always equal the sum
// of the outcomes plus the calls in flight. The hot path only increments numbers of objects that have one hidden
// class; text is built when statistics are read.

import { ERROR_TABLE } from '../mod.ts';
import type { CallResult, CallOutcome } from './call.ts';

/** Upper bounds of the duration buckets, in seconds. One more bucket counts durations above the last bound. */
export const DURATION_BOUNDS_S: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

/** Histogram of durations with the buckets of a Prometheus histogram; counts are not cumulative. */
export class DurationHistogram {
  readonly counts: number[] = Array.from({ length: DURATION_BOUNDS_S.length + 1 }, () => 0);
  sumS = 0;
  count = 0;

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < DURATION_BOUNDS_S.length && seconds > (DURATION_BOUNDS_S[bucket] as number)) bucket++;
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.sumS += seconds;
    this.count++;
  }

  /**
   * Returns quantile `q` (0..1) in seconds, interpolated within its bucket; NaN when the histogram is empty.
   */
  quantile(q: number): number {
    return quantileOf(this.counts, q);
  }
}

/** Like DurationHistogram.quantile, for a list of bucket counts such as the difference of two snapshots. */
export function quantileOf(counts: readonly number[], q: number): number {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (total === 0) return Number.NaN;
  let below = 0;
  const rank = q * total;
  for (let i = 0; i < counts.length; i++) {
    const here = counts[i] as number;
    if (below + here >= rank && here > 0) {
      const low = i === 0 ? 0 : (DURATION_BOUNDS_S[i - 1] as number);
      const high = DURATION_BOUNDS_S[i] ?? low;
      return low + (high - low) * ((rank - below) / here);
    }
    below += here;
  }
  return DURATION_BOUNDS_S.at(-1) as number;
}

/** Statistics of one method on one faceplate: calls accepted, outcomes and durations. */
export class CallStats {
  accepted = 0;
  replied = 0;
  failed = 0;
  refused = 0;
  timed_out = 0;
  cancelled = 0;
  /** Replies that were an exception, declared or undeclared. Included in `replied`. */
  exceptions = 0;
  /** Failed calls by error code. Codes that did not occur have no entry. */
  readonly errors: Partial<Record<CallResult, number>> = {};
  /** Time from acceptance to the end of a call. */
  readonly total: DurationHistogram = new DurationHistogram();
  /** Time that a call waited for a resource. */
  readonly queue: DurationHistogram = new DurationHistogram();

  get inFlight(): number {
    return this.accepted - this.replied - this.failed - this.refused - this.timed_out - this.cancelled;
  }

  accept(): void {
    this.accepted++;
  }

  /** Records the end of one accepted call. */
  settle(result: CallResult, totalMs: number, queueUs: number): void {
    if (result === 'ok') this.replied++;
    else {
      this[ERROR_TABLE[result].outcome]++;
      this.errors[result] = (this.errors[result] ?? 0) + 1;
    }
    this.total.observe(totalMs / 1e3);
    this.queue.observe(queueUs / 1e6);
  }
}

/** Key of a CallStats. Unknown services and methods are counted under '-', so clients cannot grow the table. */
export interface StatsKey {
  readonly faceplate: string;
  readonly service: string;
  readonly method: string;
}

export interface StatsEntry extends StatsKey {
  readonly stats: CallStats;
}

/** All CallStats of a process by faceplate, service and method. */
export class StatsTable {
  readonly #entries = new Map<string, StatsEntry>();

  /** Returns the statistics of a method. Beyond 10,000 entries, new methods are counted under '-'. */
  of(faceplate: string, service: string, method: string): CallStats {
    const key = `${faceplate} ${service} ${method}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= ENTRIES_MAX && service !== '-') return this.of(faceplate, '-', '-');
      entry = { faceplate, service, method, stats: new CallStats() };
      this.#entries.set(key, entry);
    }
    return entry.stats;
  }

  entries(): Iterable<StatsEntry> {
    return this.#entries.values();
  }

  /** Returns the sums over all entries. */
  sums(): Record<CallOutcome | 'accepted' | 'inFlight', number> {
    const sums = { accepted: 0, replied: 0, failed: 0, refused: 0, timed_out: 0, cancelled: 0, inFlight: 0 };
    for (const { stats } of this.#entries.values()) {
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += stats[name];
    }
    return sums;
  }
}

const ENTRIES_MAX = 10_000;
