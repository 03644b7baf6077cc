// Calls that came before the first chassis of their deployment: they wait until there is a pool, as calls wait in a pool's queue. Refuses
// calls beyond the limit of that queue and calls that asked not to wait; a call whose deadline passes or whose caller has gone leaves.

import { KatamariError, type Clock } from '../../core/mod.ts';
import type { Call } from '../../core/rpc/mod.ts';

interface WaitingForPool {
  readonly go: () => void;
  readonly refuse: (error: KatamariError) => void;
}

export class PendingPoolCalls {
  readonly #clock: Clock;
  /** By `Service@version`, longest first. */
  readonly #waiting = new Map<string, Set<WaitingForPool>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves with the time waited, in ms, when there is a pool. @throws KatamariError when the call is to go elsewhere or has ended */
  async wait(id: string, call: Call, queueMax: number): Promise<number> {
    const startMs = this.#clock.nowMs();
    const others = this.#waiting.get(id) ?? new Set();
    const refusal = this.#whyNotWait(id, call, others.size, queueMax);
    if (refusal !== undefined) throw refusal;
    this.#waiting.set(id, others);
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        others.delete(waiting);
        if (others.size === 0 && this.#waiting.get(id) === others) this.#waiting.delete(id);
        stopTimer();
        call.signal?.removeEventListener('abort', onAbort);
      };
      const waiting: WaitingForPool = {
        go: () => {
          leave();
          resolve();
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const onAbort = (): void => waiting.refuse(callerGone());
      const stopTimer = this.#clock.after(Math.max(0, call.deadlineMs - startMs), () =>
        waiting.refuse(this.#expired(id, startMs)),
      );
      call.signal?.addEventListener('abort', onAbort, { once: true });
      others.add(waiting);
    });
    return this.#clock.nowMs() - startMs;
  }

  /** There is a pool now. */
  open(id: string): void {
    for (const waiting of this.#waiting.get(id) ?? []) waiting.go();
  }

  /** There will be none. */
  refuse(id: string, why: string): void {
    for (const waiting of this.#waiting.get(id) ?? [])
      waiting.refuse(new KatamariError('draining', why, { notRun: true }));
  }

  close(why: string): void {
    for (const id of this.#waiting.keys()) this.refuse(id, why);
  }

  #whyNotWait(id: string, call: Call, waiting: number, queueMax: number): KatamariError | undefined {
    const facts = { retryAfterMs: RETRY_AFTER_MS, notRun: true };
    if (call.signal?.aborted === true) return callerGone();
    if (this.#clock.nowMs() >= call.deadlineMs) return this.#expired(id, this.#clock.nowMs());
    if (call.doNotQueue)
      return new KatamariError('overloaded', `No chassis of ${id} is up yet and the call was not to wait`, facts);
    if (waiting < queueMax) return undefined;
    const why = `Cannot wait for the first chassis of ${id}: ${waiting} calls are waiting, limit is ${queueMax}; try again in ${RETRY_AFTER_MS} ms`;
    return new KatamariError('overloaded', why, facts);
  }

  #expired(id: string, startMs: number): KatamariError {
    const waitedMs = Math.round(this.#clock.nowMs() - startMs);
    const why =
      waitedMs === 0
        ? `The deadline had passed before the call reached ${id}`
        : `Waited ${waitedMs} ms for the first chassis of ${id}; katamari status says what keeps it`;
    return new KatamariError('timeout', why, { stage: 'queue', notRun: true });
  }
}

function callerGone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone', { notRun: true });
}

const RETRY_AFTER_MS = 500;
