// Output buffer of a connection. Messages are written one after the other into one slab and go to the kernel
// together; long bodies are not copied. Memory that was given to the socket is never written again. The slab of a
// quiet connection is small, so that thousands of connections cost little.
import { COPY_BYTES_MAX } from '../thrift/encodings/mod.ts';
import { putFrameHead, type MessageType } from '../thrift/mod.ts';

import type { Socket } from 'node:net';
/**
 * When messages are flushed. 'microtask': after the current code has run, before anything else is read. 'immediate':
 * after the event loop has read all pending input, so that many connections with little output are written together.
 * Use 'immediate' only in processes that never compute for long between two reads.
 */
export type FlushAt = 'microtask' | 'immediate';

export class WriteBuffer {
  readonly #socket: Socket;
  readonly #schedule: (flush: () => void) => void;
  #slab: Buffer | undefined;
  #start = 0;
  #end = 0;
  #isScheduled = false;
  /** Messages since the last flush. */
  #waiting = 0;
  /** Bytes given to the socket since the last flush. */
  #gone = 0;
  /** Body of the message that is being written, when it is too long to copy. */
  #long: Uint8Array | undefined;
  /** Reused for every message: a new one would be an object per call. */
  readonly #room: { slab: Buffer; at: number } = { slab: NO_SLAB, at: 0 };

  constructor(socket: Socket, flushAt: FlushAt = 'microtask') {
    this.#socket = socket;
    this.#schedule = flushAt === 'microtask' ? queueMicrotask : setImmediate;
  }

  /**
   * Returns where to write the head of a message, and adds the body after it. Call `seal` when the head is written.
   */
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

  /** Adds a framed strict-binary message, with the context of field 32767 before its body. */
  message(type: MessageType, name: string, seqId: number, context: Uint8Array, body: Uint8Array): void {
    const nameBytes = Buffer.byteLength(name);
    const { slab, at } = this.room(FRAME_HEAD_BYTES + nameBytes + context.length, body);
    const contextAt = putFrameHead(slab, at, type, name, nameBytes, seqId, context.length + body.length);
    slab.set(context, contextAt);
    this.seal();
  }

  /** Adds a complete message. */
  add(message: Uint8Array): void {
    this.room(0, message);
    this.seal();
  }

  /** Writes all messages to the socket now. */
  flush(): void {
    this.#handOver();
    this.#gone = 0;
    this.#waiting = 0;
  }

  /** Calls back when the kernel has taken all messages. */
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

/** After this many messages the buffer is flushed at once: the peer starts on them while this side continues. */
const GATHERED_MAX = 16;
const NO_SLAB: Buffer = Buffer.alloc(0);
/** Frame length, version and type, length of the name, sequence id. */
const FRAME_HEAD_BYTES = 16;
/** Bytes of a slab: at first, and for a connection that has filled one since its last flush. */
const QUIET_BYTES = 4_096;
const BUSY_BYTES = 65_536;
