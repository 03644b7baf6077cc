// Ends sessions that are not renewed. As in Consul, a session lives for twice its TTL after the last renewal. The
// margin covers slow networks and busy clients: a client that renews within its TTL never loses its session, and a
// dead client is detected after at most 2 x TTL.

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

  /** Starts or restarts the timer of a session. */
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
    for (const stopTimer of this.#timers.values()) stopTimer();
    this.#timers.clear();
  }
}
