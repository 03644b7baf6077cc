// How long requests take, by version and method of the content service: the wait after which a request is sent to a
// second manager, and the usual time, against which managers are compared.

/** The last times of one method. */
class RecentTimes {
  readonly #times: number[] = [];
  #next = 0;
  #sinceSorted = Number.POSITIVE_INFINITY;
  #p95Ms = 0;
  #usualMs = 0;

  add(ms: number): void {
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % TIMES_KEPT;
    this.#sinceSorted++;
  }

  /** Undefined before there are enough of them, like usualMs. */
  p95Ms(): number | undefined {
    return this.#sort() ? this.#p95Ms : undefined;
  }

  usualMs(): number | undefined {
    return this.#sort() ? this.#usualMs : undefined;
  }

  /** Returns false before there are enough times. */
  #sort(): boolean {
    if (this.#times.length < TIMES_MIN) return false;
    if (this.#sinceSorted < SORT_EVERY) return true;
    const sorted = [...this.#times].sort((a, b) => a - b);
    this.#p95Ms = sorted[Math.floor(sorted.length * 0.95)] as number;
    this.#usualMs = sorted[Math.floor(sorted.length * 0.25)] as number;
    this.#sinceSorted = 0;
    return true;
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

  /** The time of a fast answer: a quarter of the answers are faster, also while half of the managers are slow. */
  usualMs(key: string): number | undefined {
    return this.#byMethod.get(key)?.usualMs();
  }
}

const TIMES_KEPT = 128;
const TIMES_MIN = 16;
const SORT_EVERY = 16;
const METHODS_MAX = 1_000;
