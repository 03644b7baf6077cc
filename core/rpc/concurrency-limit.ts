// Concurrency limit of a chassis: a Send that runs a fixed number of calls at once and queues the rest. The mesh
// sends a chassis its next calls before it has answered the current one (prefetch), which saves both sides a wake-up
// per call. A queued call starts only after the previous reply has been handed to the kernel. So neither a long
// computation nor a crash holds back that reply. A call that is canceled in the queue does not run. The queue has no
// limit of its own: the mesh sends no more calls than the chassis advertises (`ahead`).

import { KatamariError } from '../mod.ts';
import type { Call, CallSink, Reply, Send } from './call.ts';

export class ConcurrencyLimit {
  readonly #send: Send;
  readonly #concurrency: number;
  readonly #queue: ChassisCall[] = [];
  /** Calls that were started and whose reply has not been flushed. */
  #running = 0;
  /** Calls whose reply is flushed in the next microtask. `#running` includes them. */
  #flushing = 0;
  #closedWith: KatamariError | undefined;

  constructor(send: Send, concurrency: number) {
    this.#send = send;
    this.#concurrency = concurrency;
  }

  readonly send: Send = (call, sink) => {
    if (this.#closedWith !== undefined) {
      sink.fail(this.#closedWith);
      return;
    }
    const queued = new ChassisCall(this, call, sink);
    if (this.#running < this.#concurrency) this.#start(queued);
    else this.#queue.push(queued);
  };

  /** Refuses the queued calls and all later ones with `draining`. */
  close(reason: string): void {
    this.#closedWith ??= new KatamariError('draining', reason, { notRun: true });
    for (const { sink } of this.#queue.splice(0)) sink.fail(this.#closedWith);
  }

  /**
   * Records that a reply was added to the output, which is flushed in the next microtask. Then the next call starts.
   */
  ended(): void {
    if (this.#flushing++ === 0) queueMicrotask(this.#startNext);
  }

  #start(queued: ChassisCall): void {
    this.#running++;
    this.#send(queued.call, queued);
  }

  readonly #startNext = (): void => {
    this.#running -= this.#flushing;
    this.#flushing = 0;
    while (this.#running < this.#concurrency) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      if (next.call.signal?.aborted === true)
        next.sink.fail(new KatamariError('cancelled', 'The call was canceled before it started', { notRun: true }));
      else this.#start(next);
    }
  };
}

/** A call that is subject to the limit. */
class ChassisCall implements CallSink {
  readonly #limit: ConcurrencyLimit;
  readonly call: Call;
  readonly sink: CallSink;

  constructor(limit: ConcurrencyLimit, call: Call, sink: CallSink) {
    this.#limit = limit;
    this.call = call;
    this.sink = sink;
  }

  reply(reply: Reply): void {
    this.sink.reply(reply);
    this.#limit.ended();
  }

  fail(error: KatamariError): void {
    this.sink.fail(error);
    this.#limit.ended();
  }
}
