// Which places of a pool a copy of a call may take (services/mesh/mirrors.ts). A pool that also serves calls that
// somebody waits for keeps places free for them: as many as such calls had at once in the last seconds.

export class CopyPlaces {
  /** Calls at once that are no copies: most in the present and in the previous window. */
  #peak: number;
  #peakBefore = 0;
  #windowEndsMs: number;
  /** Copies that run. */
  #copies = 0;

  /** @param calls calls of the pool now, which run or wait */
  constructor(calls: number, nowMs: number) {
    this.#peak = calls;
    this.#windowEndsMs = nowMs + WINDOW_MS;
  }

  /** Records that a call was accepted. @param calls calls of the pool now, with it and the copies */
  accepted(calls: number, nowMs: number): void {
    this.#turn(nowMs);
    this.#peak = Math.max(this.#peak, calls - this.#copies);
  }

  /** Whether a copy may take one of the free places. @param calls calls of the pool now, with the copies */
  mayTake(freePlaces: number, calls: number, nowMs: number): boolean {
    this.#turn(nowMs);
    const peak = Math.max(this.#peak, this.#peakBefore);
    const kept = peak === 0 ? 0 : Math.max(1, peak - (calls - this.#copies));
    return freePlaces - 1 >= kept;
  }

  began(): void {
    this.#copies++;
  }

  ended(): void {
    this.#copies--;
  }

  #turn(nowMs: number): void {
    if (nowMs < this.#windowEndsMs) return;
    this.#peakBefore = nowMs < this.#windowEndsMs + WINDOW_MS ? this.#peak : 0;
    this.#peak = 0;
    this.#windowEndsMs = nowMs + WINDOW_MS;
  }
}

const WINDOW_MS = 10_000;
