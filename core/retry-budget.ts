// How many calls may be sent again: 20 % of the calls of late and 10 a second on top, so that retries never become
// the load.

import type { Clock } from './clock.ts';

export class RetryBudget {
  readonly #clock: Clock;
  #tokens = PER_SECOND;
  #refilledAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#refilledAtMs = clock.nowMs();
  }

  /** A call came in: it earns its share of a retry. */
  called(): void {
    if (this.#tokens < TOKENS_MAX) this.#tokens += PER_CALL;
  }

  /** Takes one retry; false when there is none left. */
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
/** Quiet times save up no more than this. */
const TOKENS_MAX = 200;
