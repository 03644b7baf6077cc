// The clock of `katamari bench`: ticks at exact times. An event loop timer fires up to a millisecond late, which is
// more than a call takes. So a thread sleeps exactly and posts a message. Its ticks are 0.1 ms late (p50), where
// event loop timers are 0.6 to 1.1 ms late, on all three runtimes. The delay of each tick also shows when this
// process is too busy to measure anything.

import { threadScript } from '../../../core/mod.ts';
import { LatencyHistogram } from './histogram.ts';

import { Worker } from 'node:worker_threads';

/** Data for the thread. */
export interface PreciseTimerData {
  readonly shared: Int32Array<SharedArrayBuffer>;
  /** Indexes into `shared`. Passed as data, so that the thread does not load the imports of this module. */
  readonly slot: typeof SLOT;
  readonly periodMs: number;
}

const SLOT = {
  /** The last tick that was due. */
  tick: 0,
  /** 1 while a message is in flight. */
  posted: 1,
  /** 1 to stop the thread. */
  end: 2,
} as const;

export class PreciseTimer {
  readonly periodMs: number;
  /** Delay from the due time of a tick until this thread sees it. */
  readonly lag: LatencyHistogram = new LatencyHistogram();
  /** Called after each tick, or once for several ticks if this process was busy. */
  onTick: () => void = () => undefined;
  readonly #worker: Worker;
  readonly #shared: Int32Array<SharedArrayBuffer>;
  readonly #startAtMs: number;
  #tick = 0;

  private constructor(worker: Worker, data: PreciseTimerData, startAtMs: number) {
    this.#worker = worker;
    this.#shared = data.shared;
    this.periodMs = data.periodMs;
    this.#startAtMs = startAtMs;
    worker.on('message', () => this.#onMessage());
  }

  static async start(periodMs: number): Promise<PreciseTimer> {
    const shared = new Int32Array(new SharedArrayBuffer(3 * Int32Array.BYTES_PER_ELEMENT));
    const data = { shared, slot: SLOT, periodMs };
    const worker = new Worker(threadScript(new URL('./precise-timer-thread.ts', import.meta.url)), {
      workerData: data,
    });
    const startAtMs = await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    return new PreciseTimer(worker, data, startAtMs - performance.timeOrigin);
  }

  /** The last tick that this thread has seen. */
  get tick(): number {
    return this.#tick;
  }

  /** Returns the number of the next tick. */
  nextTick(): number {
    return Math.floor((performance.now() - this.#startAtMs) / this.periodMs) + 1;
  }

  /** Returns when a tick is due, on `performance.now()` of this thread. */
  instantOf(tick: number): number {
    return this.#startAtMs + tick * this.periodMs;
  }

  async close(): Promise<void> {
    this.onTick = () => undefined;
    Atomics.store(this.#shared, SLOT.end, 1);
    Atomics.notify(this.#shared, SLOT.end);
    await this.#worker.terminate();
  }

  #onMessage(): void {
    Atomics.store(this.#shared, SLOT.posted, 0);
    const tick = Atomics.load(this.#shared, SLOT.tick);
    if (tick === this.#tick) return;
    this.lag.record(performance.now() - this.instantOf(this.#tick + 1));
    this.#tick = tick;
    this.onTick();
  }
}
