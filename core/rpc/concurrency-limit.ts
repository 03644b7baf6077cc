// A Send that works on so many calls at a time and keeps those beyond in line: the mesh may send a chassis the next
// calls before it has answered the one it works on, which saves both of them a wake-up a call. Each begins after the
// answer to the one before it has gone to the kernel, so neither a long computation nor the end of the process keeps
// that answer back. A call that is taken back while it is in line never runs. The line is as long as the mesh makes
// it; it sends no more than the chassis has said it takes.

import { KatamariError } from '../mod.ts';
import type { Call, CallSink, Reply, Send } from './call.ts';

export class ConcurrencyLimit {
  readonly #send: Send;
  readonly #atOnce: number;
  readonly #waiting: ChassisCall[] = [];
  /** Begun, and the answer has not left. */
  #begun = 0;
  /** Of those, the ones whose answer leaves at the end of this turn. */
  #leaving = 0;
  #whyClosed: KatamariError | undefined;

  constructor(send: Send, atOnce: number) {
    this.#send = send;
    this.#atOnce = atOnce;
  }

  readonly send: Send = (call, sink) => {
    if (this.#whyClosed !== undefined) {
      sink.fail(this.#whyClosed);
      return;
    }
    const inLine = new ChassisCall(this, call, sink);
    if (this.#begun < this.#atOnce) this.#begin(inLine);
    else this.#waiting.push(inLine);
  };

  /** Refuses what is in line, and all that comes. */
  close(why: string): void {
    this.#whyClosed ??= new KatamariError('draining', why, { notRun: true });
    for (const { sink } of this.#waiting.splice(0)) sink.fail(this.#whyClosed);
  }

  /**
   * The answer to a call was given to the socket, which sends what it has at the end of this turn: the next call
   * begins after that.
   */
  ended(): void {
    if (this.#leaving++ === 0) queueMicrotask(this.#goOn);
  }

  #begin(inLine: ChassisCall): void {
    this.#begun++;
    this.#send(inLine.call, inLine);
  }

  readonly #goOn = (): void => {
    this.#begun -= this.#leaving;
    this.#leaving = 0;
    while (this.#begun < this.#atOnce) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      if (next.call.signal?.aborted === true)
        next.sink.fail(new KatamariError('cancelled', 'Taken back before it began', { notRun: true }));
      else this.#begin(next);
    }
  };
}

/** A call that came through the line. */
class ChassisCall implements CallSink {
  readonly #line: ConcurrencyLimit;
  readonly call: Call;
  readonly sink: CallSink;

  constructor(line: ConcurrencyLimit, call: Call, sink: CallSink) {
    this.#line = line;
    this.call = call;
    this.sink = sink;
  }

  reply(reply: Reply): void {
    this.sink.reply(reply);
    this.#line.ended();
  }

  fail(error: KatamariError): void {
    this.sink.fail(error);
    this.#line.ended();
  }
}
