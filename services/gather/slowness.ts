// How slow a manager answers, beside the usual time of the same requests. It is forgotten with time, so that a manager
// that gets no requests because it was slow is tried again.

import { HALF_LIFE_MS, NEWCOMER_ANSWERS, SLOWNESS_MAX, SLOWNESS_SHARE, USUAL_MIN_MS } from './limits.ts';

export class Slowness {
  #value = 1;
  #atMs = 0;
  #answers = 0;

  /** A number from 1, which is as fast as usual, to SLOWNESS_MAX. */
  at(nowMs: number): number {
    return 1 + (this.#value - 1) * 2 ** ((this.#atMs - nowMs) / HALF_LIFE_MS);
  }

  /** Whether it has answered too little to be trusted with many requests: it has just come, or has come back. */
  get isNewcomer(): boolean {
    return this.#answers < NEWCOMER_ANSWERS;
  }

  /** A request has been answered. @param usualMs undefined while it is not known */
  answered(ms: number, usualMs: number | undefined, nowMs: number): void {
    this.#answers++;
    if (usualMs !== undefined) this.#add(ratioOf(ms, usualMs), nowMs);
  }

  /** Nobody waits for a request any more: it would have taken longer. */
  abandoned(ms: number, usualMs: number | undefined, nowMs: number): void {
    if (usualMs === undefined) return;
    const ratio = ratioOf(ms, usualMs);
    if (ratio > this.at(nowMs)) this.#add(ratio, nowMs);
  }

  /** A request has failed: a manager that fails at once is not fast. */
  failed(nowMs: number): void {
    this.#add(SLOWNESS_MAX, nowMs);
  }

  /** It cannot be reached. The calls that its link has cost say nothing about it when it comes back. */
  restart(): void {
    this.#answers = 0;
    this.#value = 1;
  }

  #add(ratio: number, nowMs: number): void {
    const before = this.at(nowMs);
    this.#value = before + (ratio - before) * SLOWNESS_SHARE;
    this.#atMs = nowMs;
  }
}

function ratioOf(ms: number, usualMs: number): number {
  return Math.min(SLOWNESS_MAX, Math.max(1, ms / Math.max(USUAL_MIN_MS, usualMs)));
}
