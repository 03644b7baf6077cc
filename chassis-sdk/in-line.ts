// A Send that works on so many calls at a time and keeps those beyond in line: the mesh may send a chassis the next calls before it has
// answered the one it works on, which saves both of them a wake-up a call. Each begins after the answer to the one before it has gone to the kernel, so
// neither a long computation nor the end of the process keeps that answer back. A call that is taken back while it is in line never runs. The line
// is as long as the mesh makes it; it sends no more than the chassis has said it takes.

import type { Call, CallSink, Send } from './call.ts';
import { KatamariError } from './errors.ts';

interface Waiting {
  readonly call: Call;
  readonly sink: CallSink;
}

export class InLine {
  readonly #send: Send;
  readonly #atOnce: number;
  readonly #waiting: Waiting[] = [];
  /** Begun, and the answer has not left. */
  readonly #begun = new Set<Call>();
  /** Of those, the ones whose answer leaves at the end of this turn. */
  #leaving: Call[] = [];
  #whyClosed: KatamariError | undefined;

  constructor(send: Send, atOnce: number) {
    this.#send = send;
    this.#atOnce = atOnce;
  }

  readonly send: Send = (call, sink) => {
    if (this.#whyClosed !== undefined) sink.fail(this.#whyClosed);
    else if (this.#begun.size < this.#atOnce) this.#begin(call, sink);
    else this.#waiting.push({ call, sink });
  };

  /** Refuses what is in line, and all that comes. */
  close(why: string): void {
    this.#whyClosed ??= new KatamariError('draining', why, { notRun: true });
    for (const { sink } of this.#waiting.splice(0)) sink.fail(this.#whyClosed);
  }

  /** The answer to a call was given to the socket, which sends what it has at the end of this turn: the next call begins after that. */
  ended(call: Call): void {
    if (!this.#begun.has(call)) return;
    if (this.#leaving.push(call) === 1) queueMicrotask(this.#goOn);
  }

  #begin(call: Call, sink: CallSink): void {
    this.#begun.add(call);
    this.#send(call, sink);
  }

  readonly #goOn = (): void => {
    const left = this.#leaving;
    this.#leaving = [];
    for (const call of left) this.#begun.delete(call);
    while (this.#begun.size < this.#atOnce) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const { call, sink } = next;
      if (call.signal?.aborted === true)
        sink.fail(new KatamariError('cancelled', 'Taken back before it began', { notRun: true }));
      else this.#begin(call, sink);
    }
  };
}
