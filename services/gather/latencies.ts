// How long requests take, by version and method of the content service: the wait after which a request is sent to a
// second manager.

/** The last times of one method. */
class RecentTimes {
  readonly #times: number[] = [];
  #next = 0;
  #sinceSorted = Number.POSITIVE_INFINITY;
  #p95Ms = 0;

  add(ms: number): void {
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % TIMES_KEPT;
    this.#sinceSorted++;
  }

  /** Undefined before there are enough of them. */
  p95Ms(): number | undefined {
    if (this.#times.length < TIMES_MIN) return undefined;
    if (this.#sinceSorted >= SORT_EVERY) {
      const sorted = [...this.#times].sort((a, b) => a - b);
      this.#p95Ms = sorted[Math.floor(sorted.length * 0.95)] as number;
      this.#sinceSorted = 0;
    }
    return this.#p95Ms;
  }
}

export class RequestLatencies {
  readonly #byMethod = new Map<string, RecentTimes>();

  add(key: string, ms: number): void {
    let times = this.#byMethod.get(key);
    if (times === undefined) {
      // Versions come and go, so the oldest entry is dropped.
      if (this.#byMethod.size >= METHODS_MAX) this.#byMethod.delete(this.#byMethod.keys().next().value as string);
      this.#byMethod.set(key, (times = new RecentTimes()));
    }
    times.add(ms);
  }

  p95Ms(key: string): number | undefined {
    return this.#byMethod.get(key)?.p95Ms();
  }
}

const TIMES_KEPT = 128;
const TIMES_MIN = 16;
const SORT_EVERY = 16;
const METHODS_MAX = 1_000;
