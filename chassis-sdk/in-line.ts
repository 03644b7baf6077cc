// A Dispatch that works on so many calls at a time and keeps those beyond in line: the mesh may send a chassis the next calls before it has
// answered the one it works on, which saves both of them a wake-up a call. Each begins after the answer to the one before it has gone to the kernel, so
// neither a long computation nor the end of the process keeps that answer back. A call that is taken back while it is in line never runs. The line
// is as long as the mesh makes it; it sends no more than the chassis has said it takes.

import type { Call, Dispatch, Reply } from './call.ts';
import { KatamariError } from './errors.ts';

interface Waiting {
  readonly call: Call;
  readonly resolve: (reply: Promise<Reply>) => void;
  readonly reject: (error: KatamariError) => void;
}

export class InLine {
  readonly #dispatch: Dispatch;
  readonly #atOnce: number;
  readonly #waiting: Waiting[] = [];
  readonly #begun = new Set<Call>();
  #whyClosed: KatamariError | undefined;

  constructor(dispatch: Dispatch, atOnce: number) {
    this.#dispatch = dispatch;
    this.#atOnce = atOnce;
  }

  readonly dispatch: Dispatch = (call) => {
    if (this.#whyClosed !== undefined) return Promise.reject(this.#whyClosed);
    if (this.#begun.size < this.#atOnce) return this.#begin(call);
    return new Promise((resolve, reject) => this.#waiting.push({ call, resolve, reject }));
  };

  /** Refuses what is in line, and all that comes. */
  close(why: string): void {
    this.#whyClosed ??= new KatamariError('draining', why, { notRun: true });
    for (const { reject } of this.#waiting.splice(0)) reject(this.#whyClosed);
  }

  #begin(call: Call): Promise<Reply> {
    this.#begun.add(call);
    return this.#dispatch(call);
  }

  #beginSoon(call: Call): Promise<Reply> {
    this.#begun.add(call);
    return Promise.resolve().then(() => this.#dispatch(call));
  }

  /** The answer to a call was given to the socket, which sends what it has at the end of this turn: the next call begins after that. */
  ended(call: Call): void {
    if (!this.#begun.delete(call)) return;
    while (this.#begun.size < this.#atOnce) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      if (next.call.signal?.aborted === true)
        next.reject(new KatamariError('cancelled', 'Taken back before it began', { notRun: true }));
      else next.resolve(this.#beginSoon(next.call));
    }
  }
}
