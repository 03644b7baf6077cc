// What leaves on a connection: calls are written one behind the other into one piece of memory and go to the kernel together, at the end of
// the turn. Long arguments are not copied. Memory that was handed over is never written again.

import type { Socket } from 'node:net';
import { COPY_BYTES_MAX } from '../wire/encodings/encoding.ts';

export class Outbox {
  readonly #socket: Socket;
  #slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #start = 0;
  #end = 0;
  #isScheduled = false;
  /** The body of the message that is being written, when it is too long to be copied. */
  #long: Uint8Array | undefined;
  /** Used for every message: a pair for each would be one object a call. */
  readonly #room = { slab: this.#slab, at: 0 };

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Where the head of a message is to be written; its body is taken care of, behind it. Call `seal` when it is written. */
  room(headBytes: number, body: Uint8Array): { readonly slab: Buffer; readonly at: number } {
    const isCopied = body.length <= COPY_BYTES_MAX;
    const bytes = headBytes + (isCopied ? body.length : 0);
    if (this.#end + bytes > this.#slab.length) {
      this.#flush();
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
      this.#start = this.#end = 0;
    }
    this.#room.slab = this.#slab;
    this.#room.at = this.#end;
    if (isCopied) this.#slab.set(body, this.#end + headBytes);
    else this.#long = body;
    this.#end += bytes;
    return this.#room;
  }

  seal(): void {
    if (this.#long !== undefined) {
      this.#flush();
      this.#socket.write(this.#long);
      this.#long = undefined;
    } else if (!this.#isScheduled) {
      this.#isScheduled = true;
      queueMicrotask(this.#onTurnEnd);
    }
  }

  /** Calls back when the kernel has taken all that was added. */
  whenWritten(then: (error: Error | null | undefined) => void): void {
    const rest = this.#slab.subarray(this.#start, this.#end);
    this.#start = this.#end;
    this.#socket.write(rest, then);
  }

  readonly #onTurnEnd = (): void => {
    this.#isScheduled = false;
    this.#flush();
  };

  #flush(): void {
    if (this.#start === this.#end) return;
    this.#socket.write(this.#slab.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}

const SLAB_BYTES = 65_536;
