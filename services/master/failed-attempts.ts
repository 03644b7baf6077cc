// Limits wrong admin tokens by the source of their caller, and in all, so that nobody can try many. Each source may
// fail ATTEMPTS_MAX times at once, and once more every REFILL_MS. The number of known sources is bounded: the one
// that failed longest ago is forgotten first.

import type { Clock } from '../../core/mod.ts';
import { LRUCache } from 'lru-cache';

interface Attempts {
  left: number;
  atMs: number;
}

export class FailedAttempts {
  readonly #clock: Clock;
  readonly #sources = new LRUCache<string, Attempts>({ max: SOURCES_MAX });
  readonly #all: Attempts = { left: ALL_MAX, atMs: 0 };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a failure. Returns 0, or how long the source must wait, in ms, if it or all together failed too often. */
  failed(source: string): number {
    const found = this.#sources.get(source) ?? { left: ATTEMPTS_MAX, atMs: this.#clock.nowMs() };
    this.#sources.set(source, found);
    const waitMs = Math.max(
      take(found, this.#clock.nowMs(), ATTEMPTS_MAX, REFILL_MS),
      take(this.#all, this.#clock.nowMs(), ALL_MAX, ALL_REFILL_MS),
    );
    return Math.ceil(waitMs);
  }

  /** Whether the source, or all together, failed too often. */
  isLimited(source: string): boolean {
    const nowMs = this.#clock.nowMs();
    const found = this.#sources.peek(source);
    return (
      (found !== undefined && found.left + (nowMs - found.atMs) / REFILL_MS < 1) ||
      this.#all.left + (nowMs - this.#all.atMs) / ALL_REFILL_MS < 1
    );
  }
}

function take(attempts: Attempts, nowMs: number, max: number, refillMs: number): number {
  attempts.left = Math.min(max, attempts.left + (nowMs - attempts.atMs) / refillMs);
  attempts.atMs = nowMs;
  if (attempts.left < 1) return (1 - attempts.left) * refillMs;
  attempts.left--;
  return 0;
}

const ATTEMPTS_MAX = 10;
const REFILL_MS = 6_000;
/** Failures of all sources together. */
const ALL_MAX = 100;
const ALL_REFILL_MS = 100;
const SOURCES_MAX = 10_000;
