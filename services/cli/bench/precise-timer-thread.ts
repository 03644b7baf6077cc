// The thread behind precise-timer.ts. It sleeps with microsecond precision, while event loop timers have millisecond
// precision, and posts a message when a tick is due. It posts no further message until the main thread has read the
// last one.

import type { PreciseTimerData } from './precise-timer.ts';

import { parentPort, workerData } from 'node:worker_threads';
const { shared, slot, periodMs } = workerData as PreciseTimerData;
const startAtMs = nowMs();
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- threads have no origins
const post = (what: number): void => parentPort?.postMessage(what);
post(startAtMs);
for (let tick = 1; ; tick++) {
  const dueAtMs = startAtMs + tick * periodMs;
  for (let leftMs = dueAtMs - nowMs(); leftMs > 0; leftMs = dueAtMs - nowMs()) {
    if (Atomics.wait(shared, slot.end, 0, leftMs) !== 'timed-out') break;
  }
  if (Atomics.load(shared, slot.end) === 1) break;
  Atomics.store(shared, slot.tick, tick);
  if (Atomics.exchange(shared, slot.posted, 1) === 0) post(0);
}

/** Returns the time on the clock that all threads of a process share. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
