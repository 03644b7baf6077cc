// Limits the requests that are sent twice: 5 % of all requests, and where it harms nobody a few more of a caller that
// sends few.

import type { Clock } from './clock.ts';

export class HedgeBudget {
  readonly #clock: Clock;
  readonly #perSecond: number;
  #tokens = 1;
  #refilledAtMs: number;

  /** @param perSecond requests a second that may be sent twice however few are sent */
  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#refilledAtMs = clock.nowMs();
  }

  /** Records requests. */
  sent(count: number): void {
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + count * SHARE);
  }

  /** Whether `count` requests may be sent twice; takes them if so. */
  take(count: number): boolean {
    const nowMs = this.#clock.nowMs();
    // A debt is paid back first.
    if (this.#tokens < 1)
      this.#tokens = Math.min(1, this.#tokens + ((nowMs - this.#refilledAtMs) / 1_000) * this.#perSecond);
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= count;
    return true;
  }

  /** Puts back what was taken for requests that did not run. */
  giveBack(count: number): void {
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + count);
  }
}

const SHARE = 0.05;
const TOKENS_MAX = 20;
