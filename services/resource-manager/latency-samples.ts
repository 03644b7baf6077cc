// How long the last calls of one method took: tells calls that cannot be answered in time any more, and methods whose calls are quick.

/** Service times of the last calls of one method, in ms. */
export class LatencySamples {
  readonly #times: number[] = [];
  #next = 0;
  /** A mean in which the last calls weigh most, in ms: a single slow one of many is forgiven, one that hung is remembered for some 50 calls. */
  #meanMs = 0;
  #count = 0;

  /** They take no time to speak of. */
  get isQuick(): boolean {
    return this.#meanMs <= QUICK_MS && this.#count >= ESTIMATE_CALLS_MIN;
  }

  add(ms: number): void {
    this.#count++;
    this.#meanMs += (ms - this.#meanMs) / Math.min(this.#count, RECENT_CALLS);
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % RECENT_CALLS;
  }

  shortest(): number {
    return Math.min(...this.#times);
  }
}

/** Calls that take no longer, on the mean, are quick, in ms. */
const QUICK_MS = 2;
/** Calls of a method that are looked at to tell how long it takes at least. */
const RECENT_CALLS = 8;
/** Calls served before an estimate is believed. */
export const ESTIMATE_CALLS_MIN = 32;
