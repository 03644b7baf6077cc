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
    if (delayMs > TIMER_MS_MAX) return afterLong(delayMs, act, true);
    const timer = setTimeout(act, delayMs);
    timer.unref?.();
    return () => clearTimeout(timer);
  },
};

/**
 * Longest delay of a timer of the runtime, in ms: 24.8 days. It runs a timer with a longer delay at once, so an
 * interval of years would become a loop without a pause.
 */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Waits for a long delay in steps. Returns a function that cancels it. */
function afterLong(delayMs: number, act: () => void, isUnref: boolean): () => void {
  let timer: NodeJS.Timeout;
  const step = (leftMs: number): void => {
    const stepMs = Math.min(leftMs, TIMER_MS_MAX);
    timer = setTimeout(() => (leftMs > stepMs ? step(leftMs - stepMs) : act()), stepMs);
    if (isUnref) timer.unref?.();
  };
  step(delayMs);
  return () => clearTimeout(timer);
}

/**
 * Milliseconds until the next multiple of `everyMs` that is at least half of it away. Periodic work that waits so long
 * runs at the same moments, and an idle process wakes once for all of it.
 */
export function untilNextTurnMs(nowMs: number, everyMs: number): number {
  const untilMs = everyMs - (nowMs % everyMs);
  return untilMs < everyMs / 2 ? untilMs + everyMs : untilMs;
}

/** Resolves after `delayMs`, or rejects with the signal's reason. The timer keeps the process alive until then. */
export function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      cancel();
      reject(signal?.reason as Error);
    };
    const onTime = (): void => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    };
    const cancel = afterLong(delayMs, onTime, false);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
