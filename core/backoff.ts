// Pauses between tries: doubling up to a bound, each shortened by up to half at random so that many processes do not
// come back in step.

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

  /** Since the last success. */
  get tries(): number {
    return this.#tries;
  }

  /** The next pause in ms. */
  next(): number {
    const { firstMs, maxMs, random } = this.#options;
    // Beyond 2^30 doubling changes nothing any more, and must not overflow.
    const pauseMs = Math.min(maxMs, firstMs * 2 ** Math.min(this.#tries, 30));
    this.#tries++;
    return pauseMs * (1 - random() / 2);
  }

  /** A try succeeded. */
  reset(): void {
    this.#tries = 0;
  }
}
