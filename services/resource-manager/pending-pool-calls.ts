// Calls that arrive before the first chassis of their deployment is ready. They wait until there is a pool, with the
// same limit as the queue of that pool. Refuses calls beyond the limit and calls that asked not to wait.

import { callerGone, WaitingCallsByKey, type DeadlineWheel, type Waiter } from '../../core/link/mod.ts';
import { KatamariError, NO_COPY_UP, type Clock } from '../../core/mod.ts';
import type { Call, CallSink } from '../../core/rpc/mod.ts';

export class PendingPoolCalls {
  readonly #clock: Clock;
  /** By `Service@version`. */
  readonly #calls: WaitingCallsByKey;

  constructor(clock: Clock, deadlines: DeadlineWheel) {
    this.#clock = clock;
    this.#calls = new WaitingCallsByKey({ clock, deadlines, max: WAITING_MAX });
  }

  /**
   * Lets a call wait for the first pool of `Service@version`, or fails it at once when it cannot wait.
   * @param resume called when there is a pool, with the time waited in ms
   */
  add(id: string, call: Call, queueMax: number, sink: CallSink, resume: (waitedMs: number) => void): void {
    const refusal = this.#whyNotWait(id, call, queueMax);
    if (refusal !== undefined) {
      sink.fail(refusal);
      return;
    }
    const waiter: Waiter = {
      resume,
      fail: (error) => sink.fail(error),
      timeoutError: (waitedMs) => timeoutError(id, waitedMs),
    };
    this.#calls.add(id, queueMax, call, waiter);
  }

  /** Resumes the calls for `Service@version`: it has a pool now. */
  resume(id: string): void {
    this.#calls.resume(id);
  }

  /** Fails the calls for `Service@version`, or all calls: there will be no pool. */
  refuse(error: () => KatamariError, id?: string): void {
    this.#calls.refuse(error, id);
  }

  #whyNotWait(id: string, call: Call, queueMax: number): KatamariError | undefined {
    const facts = { retryAfterMs: RETRY_AFTER_MS, notRun: true };
    if (call.signal?.aborted === true) return callerGone();
    if (this.#clock.nowMs() >= call.deadlineMs) return timeoutError(id, 0);
    if (call.doNotQueue)
      return new KatamariError('overloaded', `No chassis of ${id} is up yet and the call asked not to wait`, facts);
    if (!this.#calls.isFull(id, queueMax)) return undefined;
    const waiting = this.#calls.count(id);
    const why =
      waiting >= queueMax
        ? `${waiting} calls are waiting, limit is ${queueMax}`
        : `${this.#calls.count()} calls are waiting for the first chassis of their deployments, limit is ${WAITING_MAX}`;
    return new KatamariError(
      'overloaded',
      `Cannot wait for the first chassis of ${id}: ${why}; try again in ${RETRY_AFTER_MS} ms`,
      facts,
    );
  }
}

function timeoutError(id: string, waitedMs: number): KatamariError {
  const why =
    Math.round(waitedMs) === 0
      ? `The deadline had passed before the call reached ${id}`
      : `Waited ${Math.round(waitedMs)} ms for the first chassis of ${id}; katamari status shows why`;
  return new KatamariError('timeout', why, waitedMs === 0 ? { stage: 'queue', notRun: true } : NO_COPY_UP);
}

const RETRY_AFTER_MS = 500;
/** Calls of all deployments together that may wait for a first chassis. */
const WAITING_MAX = 10_000;
