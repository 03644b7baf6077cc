// Pauses and timeouts on a Clock. Tests advance the clock, and a signal ends every pause at once.

import type { Clock } from '../../core/mod.ts';

/**
 * Resolves after `delayMs` on the clock, or at once when the signal fires. Never rejects. Its timer does not keep the
 * process alive.
 */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      stopTimer();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const stopTimer = clock.after(delayMs, end);
    signal.addEventListener('abort', end, { once: true });
  });
}

/** Calls `act` with a signal that fires after `limitMs` on the clock. `act` then decides how to end. */
export async function within<T>(clock: Clock, limitMs: number, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const timeout = new AbortController();
  const stopTimer = clock.after(limitMs, () => timeout.abort());
  try {
    return await act(timeout.signal);
  } finally {
    stopTimer();
  }
}

/** Timeout for deregistration at shutdown, in ms. After it, Consul's health checks remove the process. */
export const DEREGISTER_TIMEOUT_MS = 2_000;
