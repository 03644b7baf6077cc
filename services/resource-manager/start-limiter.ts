// Limits the number of first starts that run at the same time, so that they do not compete for the processors. The
// first replicas of all deployments start before the second ones, so that every service answers early. A slow start
// gives up its turn after a second.

import type { Clock } from '../../core/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import type { Slot } from './slot.ts';

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

  /** Queues slots for their first start. */
  add(slots: readonly Slot[]): void {
    this.#waiting.push(...slots.filter((slot) => !this.#waiting.includes(slot)));
    this.#waiting.sort((a, b) => indexOf(a) - indexOf(b));
    for (let n = this.#starting; n < STARTS_AT_ONCE; n++) this.#startNext();
  }

  /** Removes a slot that must not start any more. */
  remove(slot: Slot): void {
    this.#waiting = this.#waiting.filter((one) => one !== slot);
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting = [];
  }

  #startNext(): void {
    let slot: Slot | undefined;
    do {
      slot = this.#waiting.shift();
      slot?.start();
      // A slot without a start waits for a fault of its deployment to be corrected, or a rolling restart was first.
    } while (slot !== undefined && !slot.isStarting);
    if (slot !== undefined) this.#awaitTurn(slot);
  }

  #awaitTurn(slot: Slot): void {
    this.#starting++;
    let isDone = false;
    const next = (): void => {
      if (isDone) return;
      isDone = true;
      stop();
      stopListening();
      this.#starting--;
      if (!this.#isClosed) this.#startNext();
    };
    const stop = this.#clock.after(TURN_MS, next);
    const stopListening = this.#events.listen(({ subject, kind }) => {
      if (subject === slot.name && kind !== 'resource_starting') next();
    });
  }
}

/** The index in `Service@version/index`. */
function indexOf({ name }: Slot): number {
  return Number(name.slice(name.lastIndexOf('/') + 1));
}

const STARTS_AT_ONCE = Math.max(2, availableParallelism());
/** A first start that takes longer does not delay the others. */
const TURN_MS = 1_000;
