// Time as an argument: everything that waits takes a Clock, so that tests move time instead of sleeping.

/** Monotonic milliseconds and one-shot timers. */
export interface Clock {
  /** Monotonic, in ms; only differences mean anything. */
  nowMs(): number;
  /** Runs `act` once after `delayMs`; the returned function takes it back. The timer keeps no process alive. */
  after(delayMs: number, act: () => void): () => void;
}

/** The real clock: `performance.now()` and unref'd timers. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(delayMs, act) {
    const timer = setTimeout(act, delayMs);
    timer.unref?.();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`, or rejects with the signal's reason. Keeps the process alive meanwhile. */
export function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
