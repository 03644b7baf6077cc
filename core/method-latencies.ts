// How long requests take, by version and method: the wait after which a request is sent a second time, and the usual
// time, against which managers are compared.

/** The last times of one method. */
export class MethodLatencies {
  readonly #times = new Float64Array(TIMES_KEPT);
  readonly #sorted = new Float64Array(TIMES_KEPT);
  #next = 0;
  #count = 0;
  #sinceSorted = Number.POSITIVE_INFINITY;

  add(ms: number): void {
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % TIMES_KEPT;
    if (this.#count < TIMES_KEPT) this.#count++;
    this.#sinceSorted++;
  }

  /** Undefined before there are enough of them, like quantileMs. */
  p95Ms(): number | undefined {
    return this.quantileMs(0.95);
  }

  /** The time of a fast answer: a quarter of the answers are faster, also while half of the managers are slow. */
  usualMs(): number | undefined {
    return this.quantileMs(0.25);
  }

  /** @param share of the times that are shorter, 0 to 1 */
  quantileMs(share: number): number | undefined {
    if (this.#count < TIMES_MIN) return undefined;
    if (this.#sinceSorted >= SORT_EVERY) {
      this.#sorted.set(this.#times);
      this.#sorted.subarray(0, this.#count).sort();
      this.#sinceSorted = 0;
    }
    return this.#sorted[Math.floor(this.#count * share)];
  }
}

export class RequestLatencies {
  readonly #byMethod = new Map<string, MethodLatencies>();

  of(version: string, method: string): MethodLatencies {
    const key = `${version}.${method}`;
    let times = this.#byMethod.get(key);
    if (times === undefined) {
      // Versions come and go, so the oldest entry is dropped.
      if (this.#byMethod.size >= METHODS_MAX) this.#byMethod.delete(this.#byMethod.keys().next().value as string);
      this.#byMethod.set(key, (times = new MethodLatencies()));
    }
    return times;
  }
}

const TIMES_KEPT = 128;
const TIMES_MIN = 16;
const SORT_EVERY = 16;
const METHODS_MAX = 1_000;
