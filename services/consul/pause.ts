// Waiting on a Clock with a signal, so that tests move time and a close ends every wait; and acts that are given up
// after a while.

import type { Clock } from '../../core/mod.ts';

/**
 * Resolves after `delayMs` on the clock, or at once when the signal fires; never rejects. Keeps no process alive on
 * the system clock.
 */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      takeBack();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const takeBack = clock.after(delayMs, end);
    signal.addEventListener('abort', end, { once: true });
  });
}

/** Does `act` with a signal that fires after `limitMs` on the clock; what it then makes of it is its own. */
export async function within<T>(clock: Clock, limitMs: number, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const patience = new AbortController();
  const takeBack = clock.after(limitMs, () => patience.abort());
  try {
    return await act(patience.signal);
  } finally {
    takeBack();
  }
}

/** Who leaves tells Consul so for at most so long, in ms: it finds out by its checks. */
export const FAREWELL_MS = 2_000;
