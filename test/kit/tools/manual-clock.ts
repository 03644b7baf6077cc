// A clock that tests move: timers fire in order of their time, and nothing sleeps.

import type { Clock } from '../../../core/mod.ts';

export class ManualClock implements Clock {
  #nowMs = 1_000;
  #timers: { atMs: number; act: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, act: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, act };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  /** Moves time forward. Every timer that is due fires at its own time. */
  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      const [next] = this.#timers.filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.act();
    }
    this.#nowMs = endMs;
  }

  /** Number of pending timers. */
  get waiting(): number {
    return this.#timers.length;
  }
}
