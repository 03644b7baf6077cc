// Retry budget: a token bucket that limits retries to 20 % of recent calls plus 10 per second, so that retries do not
// amplify an overload.

import type { Clock } from './clock.ts';

export class RetryBudget {
  readonly #clock: Clock;
  #tokens = PER_SECOND;
  #refilledAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#refilledAtMs = clock.nowMs();
  }

  /** Records calls, each of which adds a fifth of a retry to the budget. */
  called(count: number = 1): void {
    if (this.#tokens < TOKENS_MAX) this.#tokens += count * PER_CALL;
  }

  /** Takes one retry from the budget. Returns false when the budget is empty. */
  take(): boolean {
    const nowMs = this.#clock.nowMs();
    this.#tokens = Math.min(TOKENS_MAX, this.#tokens + ((nowMs - this.#refilledAtMs) / 1000) * PER_SECOND);
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

const PER_CALL = 0.2;
const PER_SECOND = 10;
/** Capacity of the bucket, in retries. */
const TOKENS_MAX = 200;
