// Service times of the last calls of one method. They show which waiting calls cannot finish in time, and which
// methods are quick.

/** Service times of the last calls of one method, in ms. */
export class LatencySamples {
  readonly #times: number[] = [];
  #next = 0;
  /**
   * Moving average in ms. One slow call among many hardly changes it; a call that hung affects it for some 50 calls.
   */
  #meanMs = 0;
  #count = 0;

  /** Whether calls take at most 2 ms on average. */
  get isQuick(): boolean {
    return this.#meanMs <= QUICK_MS && this.#count >= ESTIMATE_CALLS_MIN;
  }

  /** Moving average in ms; 0 before the first call. */
  get meanMs(): number {
    return this.#meanMs;
  }

  add(ms: number): void {
    this.#count++;
    this.#meanMs += (ms - this.#meanMs) / Math.min(this.#count, RECENT_CALLS);
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % RECENT_CALLS;
  }

  /** The shortest of the last calls, in ms. */
  shortest(): number {
    return Math.min(...this.#times);
  }
}

/** Longest average of quick calls, in ms. */
const QUICK_MS = 2;
/** Number of calls in the samples. */
const RECENT_CALLS = 8;
/** Calls served before an estimate is used. */
export const ESTIMATE_CALLS_MIN = 32;
