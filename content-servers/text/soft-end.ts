// The soft end of a call. SQLite blocks the thread, so nothing interrupts it: code that works in slices looks at the
// clock between them, and stops when 90 % of the time is used. The rest is for the answer and its way back.

export class SoftEnd {
  readonly #budgetMs: number;
  readonly #startMs: number;
  readonly #nowMs: () => number;

  /** @param leftMs time until the deadline of the call */
  constructor(leftMs: number, nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
    this.#budgetMs = leftMs * SHARE;
  }

  isReached(): boolean {
    return this.#nowMs() - this.#startMs >= this.#budgetMs;
  }

  /** `450 ms, 90 % of the time of this call, were used` */
  describe(): string {
    return `${Math.round(this.#budgetMs)} ms, 90 % of the time of this call, were used`;
  }
}

const SHARE = 0.9;
