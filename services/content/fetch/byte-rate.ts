// Keeps a fetch to a number of bytes per second: a token bucket that holds half a second, or a chunk.

import { sleep } from '../../../core/mod.ts';

/** Time, for tests. */
export interface RateClock {
  readonly nowMs: () => number;
  readonly sleep: (ms: number) => Promise<void>;
}

export class ByteRate {
  #bytesPerS: number;
  readonly #clock: RateClock;
  /** Bytes that may pass now; below 0 after a large chunk. */
  #tokens = 0;
  #filledAtMs: number;
  /** Bytes of the largest chunk so far: while one is read, the next may be paid for. */
  #chunkBytesMax = 0;

  /** @param bytesPerS 0 for no limit */
  constructor(bytesPerS: number, clock: RateClock = { nowMs: () => performance.now(), sleep }) {
    this.#bytesPerS = bytesPerS;
    this.#clock = clock;
    this.#filledAtMs = clock.nowMs();
  }

  /** Changes the limit, but not from or to none. The tokens in the bucket stay. */
  change(bytesPerS: number): void {
    this.#fill();
    this.#bytesPerS = bytesPerS;
  }

  /** Resolves when these bytes, which have passed, are paid for. @param onWait called each second of a wait */
  async spend(bytes: number, onWait: () => void): Promise<void> {
    if (this.#bytesPerS === 0) return;
    this.#chunkBytesMax = Math.max(this.#chunkBytesMax, bytes);
    this.#fill();
    this.#tokens -= bytes;
    while (this.#tokens < 0) {
      await this.#clock.sleep(Math.max(1, Math.min((-this.#tokens / this.#bytesPerS) * 1_000, 1_000)));
      onWait();
      this.#fill();
    }
  }

  #fill(): void {
    const now = this.#clock.nowMs();
    const earned = ((now - this.#filledAtMs) / 1_000) * this.#bytesPerS;
    // No burst after a time in which the source sent nothing.
    this.#tokens = Math.min(this.#tokens + earned, Math.max(this.#bytesPerS * BURST_S, this.#chunkBytesMax));
    this.#filledAtMs = now;
  }
}

const BURST_S = 0.5;
