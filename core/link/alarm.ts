// One wait on a deadline wheel.

import type { DeadlineEntry } from './deadline-wheel.ts';

export class Alarm implements DeadlineEntry {
  readonly expiresAtMs: number;
  readonly expire: () => void;
  /** Owned by the wheel. */
  slot = -1;
  place = -1;

  constructor(expiresAtMs: number, expire: () => void) {
    this.expiresAtMs = expiresAtMs;
    this.expire = expire;
  }
}
