// Converts times of this process to the clock of a peer, so that a deadline holds even if the network delivers a call
// late. Processes have monotonic clocks with different origins, so the difference is measured with pings: the peer
// answers with its time, and the answer was on its way when this process reads it. So the peer's clock minus this one
// is at least (time in the answer - time of its arrival).
//
// This lower bound is never too high, however late the answer is, so a converted deadline is never later than the
// true one. It is earlier by the time that an answer takes back to this process: a peer that replied after it would
// be too late anyway. The best bound is kept. It decays by the largest drift between two clocks.

export class ClockOffset {
  /** The bound at `#atMs`; -Infinity while nothing was measured. */
  #boundMs = Number.NEGATIVE_INFINITY;
  #atMs = 0;

  /**
   * Adds a measurement.
   * @param peerMs time of the peer when it answered
   * @param nowMs time of this process when it read the answer
   */
  measured(peerMs: number, nowMs: number): void {
    const boundMs = peerMs - nowMs;
    if (boundMs < this.#boundAt(nowMs)) return;
    this.#boundMs = boundMs;
    this.#atMs = nowMs;
  }

  /**
   * Returns a time of this process on the clock of the peer, never later than the true one; undefined while nothing
   * was measured.
   */
  toPeer(timeMs: number, nowMs: number): number | undefined {
    return this.#boundMs === Number.NEGATIVE_INFINITY ? undefined : timeMs + this.#boundAt(nowMs);
  }

  #boundAt(nowMs: number): number {
    return this.#boundMs - (nowMs - this.#atMs) * DRIFT_MAX;
  }
}

/** Largest drift between two clocks: time daemons slew a clock by at most 500 ppm. */
const DRIFT_MAX = 0.001;
