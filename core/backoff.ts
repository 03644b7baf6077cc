// Exponential backoff with jitter. The delay doubles up to a maximum; each delay is then shortened by up to half at
// random, so that many processes do not retry at the same moment.

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly random: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #tries = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** Number of delays returned since the last `reset`. */
  get tries(): number {
    return this.#tries;
  }

  /** Returns the next delay in ms and counts one more try. */
  next(): number {
    const { firstMs, maxMs, random } = this.#options;
    // The exponent is capped at 30: the delay has long reached its maximum, and the power must not overflow.
    const delayMs = Math.min(maxMs, firstMs * 2 ** Math.min(this.#tries, 30));
    this.#tries++;
    return delayMs * (1 - random() / 2);
  }

  /** Starts again at the first delay. Call it when a try succeeds. */
  reset(): void {
    this.#tries = 0;
  }
}
