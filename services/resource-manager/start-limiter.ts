// First starts take turns: a few at a time, the first copies of every deployment before the second ones, so that everything answers early.
import type { Clock } from '../../core/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import type { Slot } from './slot.ts';

// All at once they would share the processors and all be late. One that takes long gives its turn on.

import { availableParallelism } from 'node:os';

export class StartLimiter {
  readonly #events: EventLog;
  readonly #clock: Clock;
  #waiting: Slot[] = [];
  #starting = 0;
  #isClosed = false;

  constructor(events: EventLog, clock: Clock) {
    this.#events = events;
    this.#clock = clock;
  }

  add(slots: readonly Slot[]): void {
    this.#waiting.push(...slots.filter((slot) => !this.#waiting.includes(slot)));
    this.#waiting.sort((a, b) => indexOf(a) - indexOf(b));
    for (let n = this.#starting; n < STARTS_AT_ONCE; n++) this.#startNext();
  }

  /** It is not to be started any more. */
  remove(slot: Slot): void {
    this.#waiting = this.#waiting.filter((one) => one !== slot);
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting = [];
  }

  #startNext(): void {
    const slot = this.#waiting.shift();
    if (slot === undefined) return;
    this.#starting++;
    slot.start();
    let isOver = false;
    const next = (): void => {
      if (isOver) return;
      isOver = true;
      stop();
      stopListening();
      this.#starting--;
      if (!this.#isClosed) this.#startNext();
    };
    const stop = this.#clock.after(START_PATIENCE_MS, next);
    const stopListening = this.#events.listen(({ subject, kind }) => {
      if (subject === slot.name && kind !== 'resource_starting') next();
    });
  }
}

/** The number in `Service@1.0.0/3`. */
function indexOf({ name }: Slot): number {
  return Number(name.slice(name.lastIndexOf('/') + 1));
}

const STARTS_AT_ONCE = Math.max(2, availableParallelism());
/** A first start that takes longer does not hold the others up. */
const START_PATIENCE_MS = 1_000;
