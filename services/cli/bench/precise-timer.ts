// The clock of `katamari bench`: ticks at given instants, which timers cannot keep. A timer of an event loop comes up
// to a millisecond late, which is
import { threadScript } from '../../../core/mod.ts';
import { LatencyHistogram } from './histogram.ts';

// more than a call takes; so a thread of its own sleeps exactly and knocks (p50 0.1 ms late where timers were 0.6 to
// 1.1 ms, on all three runtimes). How late a tick is noticed here is also what tells that this process is too busy to
// measure anything.

import { Worker } from 'node:worker_threads';

/** What the thread is given. */
export interface PreciseTimerData {
  readonly shared: Int32Array<SharedArrayBuffer>;
  /** Places in `shared`. Handed over, so that the thread need not load what this side stands on. */
  readonly slot: typeof SLOT;
  readonly periodMs: number;
}

const SLOT = {
  /** The last tick that was due. */
  tick: 0,
  /** 1: a knock is on its way. */
  knocked: 1,
  /** 1: the thread is to end. */
  end: 2,
} as const;

export class PreciseTimer {
  readonly periodMs: number;
  /** How late ticks were noticed. */
  readonly lag: LatencyHistogram = new LatencyHistogram();
  /** Called after each tick, or after several at once when this process was busy. */
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
    worker.on('message', () => this.#knocked());
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

  /** The last tick that was due, as far as this side has noticed. */
  get tick(): number {
    return this.#tick;
  }

  /** The first tick that is still to come. */
  nextTick(): number {
    return Math.floor((performance.now() - this.#startAtMs) / this.periodMs) + 1;
  }

  /** When a tick is due, on `performance.now()` of this thread. */
  instantOf(tick: number): number {
    return this.#startAtMs + tick * this.periodMs;
  }

  async close(): Promise<void> {
    this.onTick = () => undefined;
    Atomics.store(this.#shared, SLOT.end, 1);
    Atomics.notify(this.#shared, SLOT.end);
    await this.#worker.terminate();
  }

  #knocked(): void {
    Atomics.store(this.#shared, SLOT.knocked, 0);
    const tick = Atomics.load(this.#shared, SLOT.tick);
    if (tick === this.#tick) return;
    this.lag.record(performance.now() - this.instantOf(this.#tick + 1));
    this.#tick = tick;
    this.onTick();
  }
}
