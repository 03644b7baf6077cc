// What leaves on a connection: messages are written one behind the other into one piece of memory and go to the kernel together. Long bodies are
import { COPY_BYTES_MAX } from '../thrift/encodings/mod.ts';
import { putFrameHead, type MessageType } from '../thrift/mod.ts';

// not copied. Memory that was handed over is never written again. Small as long as little is said, so that thousands of quiet connections cost little.

import type { Socket } from 'node:net';
/**
 * When messages leave. 'turn': when what runs now has ended, before anything else is read. 'round': when all that the kernel had for this
 * process was read, so that many connections that each say a little become one write; for those who never work long between two reads.
 */
export type FlushAt = 'turn' | 'round';

export class WriteBuffer {
  readonly #socket: Socket;
  readonly #schedule: (flush: () => void) => void;
  #slab: Buffer | undefined;
  #start = 0;
  #end = 0;
  #isScheduled = false;
  /** Messages that were added since all was handed over last. */
  #waiting = 0;
  /** Bytes that were handed over since the last time all was. */
  #gone = 0;
  /** The body of the message that is being written, when it is too long to be copied. */
  #long: Uint8Array | undefined;
  /** Used for every message: a pair for each would be one object a call. */
  readonly #room: { slab: Buffer; at: number } = { slab: NO_SLAB, at: 0 };

  constructor(socket: Socket, gathering: FlushAt = 'turn') {
    this.#socket = socket;
    this.#schedule = gathering === 'turn' ? queueMicrotask : setImmediate;
  }

  /** Where the head of a message is to be written; its body is taken care of, behind it. Call `seal` when it is written. */
  room(headBytes: number, body: Uint8Array): { readonly slab: Buffer; readonly at: number } {
    const isCopied = body.length <= COPY_BYTES_MAX;
    const bytes = headBytes + (isCopied ? body.length : 0);
    let slab = this.#slab;
    if (slab === undefined || this.#end + bytes > slab.length) {
      this.#handOver();
      slab = this.#slab = Buffer.allocUnsafeSlow(Math.max(this.#gone === 0 ? QUIET_BYTES : BUSY_BYTES, bytes));
      this.#start = this.#end = 0;
    }
    this.#room.slab = slab;
    this.#room.at = this.#end;
    if (isCopied) slab.set(body, this.#end + headBytes);
    else this.#long = body;
    this.#end += bytes;
    return this.#room;
  }

  seal(): void {
    if (this.#long !== undefined) {
      this.#handOver();
      this.#socket.write(this.#long);
      this.#long = undefined;
    } else if (++this.#waiting >= GATHERED_MAX) {
      this.flush();
    } else if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#schedule(this.#onTime);
    }
  }

  /** One framed strict-binary message, with the context of field 32767 before its body. */
  message(type: MessageType, name: string, seqId: number, context: Uint8Array, body: Uint8Array): void {
    const nameBytes = Buffer.byteLength(name);
    const { slab, at } = this.room(FRAME_HEAD_BYTES + nameBytes + context.length, body);
    const behind = putFrameHead(slab, at, type, name, nameBytes, seqId, context.length + body.length);
    slab.set(context, behind);
    this.seal();
  }

  /** A whole message that was made elsewhere. */
  add(message: Uint8Array): void {
    this.room(0, message);
    this.seal();
  }

  /** Hands over now what waits. */
  flush(): void {
    this.#handOver();
    this.#gone = 0;
    this.#waiting = 0;
  }

  /** Calls back when the kernel has taken all that was added. */
  whenWritten(then: (error: Error | null | undefined) => void): void {
    const rest = this.#slab?.subarray(this.#start, this.#end) ?? NO_SLAB;
    this.#start = this.#end;
    this.#socket.write(rest, then);
  }

  readonly #onTime = (): void => {
    this.#isScheduled = false;
    this.flush();
  };

  #handOver(): void {
    if (this.#start === this.#end || this.#slab === undefined) return;
    const piece = this.#slab.subarray(this.#start, this.#end);
    this.#start = this.#end;
    this.#gone += piece.length;
    this.#socket.write(piece);
  }
}

/** So many messages leave at once: the other side begins with them while this one goes on. */
const GATHERED_MAX = 16;
const NO_SLAB: Buffer = Buffer.alloc(0);
/** Length, version and type, length of the name, sequence id. */
const FRAME_HEAD_BYTES = 16;
/** Memory for a connection that says little at a time, and for one that filled that, in bytes. */
const QUIET_BYTES = 4_096;
const BUSY_BYTES = 65_536;
