// Ends sessions that were not renewed. As in the real agent a session lives twice its TTL after the last renewal, the
// slack that a slow network or a busy client needs: a client that renews within its TTL is never cut off, one that
// died is noticed at the latest at 2 x TTL.

import type { Clock } from '../../core/mod.ts';
import { parseDuration } from './go-compat.ts';
import type { Session } from './session-table.ts';

const TTL_FACTOR = 2;

export class SessionTimers {
  readonly #clock: Clock;
  readonly #onExpired: (id: string) => void;
  readonly #timers = new Map<string, () => void>();

  constructor(clock: Clock, onExpired: (id: string) => void) {
    this.#clock = clock;
    this.#onExpired = onExpired;
  }

  /** Starts a session's time, or starts it again. */
  renew(session: Session): void {
    this.forget(session.ID);
    const ttlMs = (parseDuration(session.TTL) ?? 0) / 1e6;
    if (ttlMs <= 0) return;
    const expire = (): void => {
      this.#timers.delete(session.ID);
      this.#onExpired(session.ID);
    };
    this.#timers.set(session.ID, this.#clock.after(ttlMs * TTL_FACTOR, expire));
  }

  forget(id: string): void {
    this.#timers.get(id)?.();
    this.#timers.delete(id);
  }

  close(): void {
    for (const takeBack of this.#timers.values()) takeBack();
    this.#timers.clear();
  }
}
