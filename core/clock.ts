// The clock interface. Code that waits takes a Clock as an argument, so that tests can advance time instead of
// sleeping.

/** Monotonic milliseconds and one-shot timers. */
export interface Clock {
  /** Returns monotonic time in ms. The origin is unspecified, so only differences are meaningful. */
  nowMs(): number;
  /** Runs `act` once after `delayMs`. Returns a function that cancels it. The timer does not keep the process alive. */
  after(delayMs: number, act: () => void): () => void;
}

/** The system clock: `performance.now()` and unref'd timers. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(delayMs, act) {
    const timer = setTimeout(act, delayMs);
    timer.unref?.();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`, or rejects with the signal's reason. The timer keeps the process alive until then. */
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
