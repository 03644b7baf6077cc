// Limits the requests that are sent twice: 5 % of all requests, and one a second at least.

import type { Clock } from '../../core/mod.ts';

export class HedgeBudget {
  readonly #clock: Clock;
  #tokens = 1;
  #refilledAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#refilledAtMs = clock.nowMs();
  }

  /** Records requests. */
  sent(count: number): void {
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + count * SHARE);
  }

  /** Whether `count` requests may be sent twice; takes them if so. */
  take(count: number): boolean {
    const nowMs = this.#clock.nowMs();
    // At least one a second, also when few requests are sent. A debt is paid back first.
    if (this.#tokens < 1) this.#tokens = Math.min(1, this.#tokens + (nowMs - this.#refilledAtMs) / 1_000);
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= count;
    return true;
  }
}

const SHARE = 0.05;
const TOKENS_MAX = 20;
