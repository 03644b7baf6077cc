// One connection of `katamari bench` to the Thrift port. Writes prepared frames and reads only as much of a reply
// as tells result from failure. Replies arrive in the order of the calls, so a queue of timestamps is all the state
// of the pending calls. The connection does not reconnect by itself.

import { FrameReader } from '../../../core/link/mod.ts';
import type { Address } from '../../../core/mod.ts';
import { HEADER_MAGIC } from '../../../core/thrift/encodings/mod.ts';
import { readApplicationException, MESSAGE_TYPE } from '../../../core/thrift/mod.ts';
import { failureCodeOf } from './error-codes.ts';
import { DECLARED, RESULT, type CallResultKind } from './tally.ts';

import { connect, type Socket } from 'node:net';

export interface ConnectionEvents {
  /** A call ended. `dueAtMs` is the value given to `send`. */
  onEnding(connection: BenchConnection, ending: CallResultKind, dueAtMs: number): void;
  /** The connection closed; each of its calls has been reported. */
  onLost(connection: BenchConnection): void;
}

export class BenchConnection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #pending = new PipelinedRequests();
  readonly #reader = new FrameReader(FRAME_BYTES_MAX, (frame) => this.#onFrame(frame));
  #isClosed = false;

  private constructor(socket: Socket, events: ConnectionEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => this.close());
  }

  /** @throws Error of the socket, or after CONNECT_MS */
  static open({ host, port }: Address, events: ConnectionEvents): Promise<BenchConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const timer = setTimeout(
        () => socket.destroy(new Error(`no connection within ${CONNECT_MS / 1_000} s`)),
        CONNECT_MS,
      );
      socket.once('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      socket.once('connect', () => {
        clearTimeout(timer);
        resolve(new BenchConnection(socket, events));
      });
    });
  }

  /** Number of pending calls. */
  get inFlight(): number {
    return this.#pending.length;
  }

  send(frame: Buffer, dueAtMs: number, nowMs: number): void {
    this.#pending.push(dueAtMs, nowMs);
    this.#socket.write(frame);
  }

  /** Whether it accepts calls. */
  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /**
   * Closes the connection if a call sent at `beforeMs` or earlier has no reply: replies come in order, so all later
   * calls would wait behind it.
   */
  giveUp(beforeMs: number): void {
    if (this.#pending.length > 0 && this.#pending.sentAtMs <= beforeMs) this.#close(beforeMs);
  }

  close(): void {
    this.#close(NOT_SENT_YET);
  }

  #onData(chunk: Buffer): void {
    // Calls that these replies trigger are written together.
    this.#socket.cork();
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#broken((error as Error).message);
    }
    this.#socket.uncork();
  }

  #onFrame(frame: Buffer): void {
    if (this.#isClosed) return;
    let ending: CallResultKind;
    try {
      ending = endingOf(frame);
    } catch (error) {
      this.#broken((error as Error).message);
      return;
    }
    if (this.#pending.length > 0) this.#end(ending);
    else this.#broken('a reply without a call');
  }

  #broken(message: string): void {
    this.#close(NOT_SENT_YET, { kind: 'failed', code: 'broken_answer', message });
  }

  #end(ending: CallResultKind): void {
    const dueAtMs = this.#pending.shift();
    this.#events.onEnding(this, ending, dueAtMs);
  }

  /**
   * Marks itself closed first, because a listener may send the next call at once. Calls sent at `beforeMs` or
   * earlier timed out; the others are lost with the connection.
   * @param first result of the first pending call
   */
  #close(beforeMs: number, first?: CallResultKind): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    if (first !== undefined && this.#pending.length > 0) this.#end(first);
    while (this.#pending.length > 0) this.#end(this.#pending.sentAtMs <= beforeMs ? NO_ANSWER : LOST);
    this.#events.onLost(this);
  }
}

/**
 * Classifies a reply as result, declared exception or failure, by the message head and the first field of its
 * struct.
 * @throws Error if the frame is no reply
 */
function endingOf(frame: Buffer): CallResultKind {
  // A THeader frame: magic, flags, sequence id, then the size of the header in words.
  const start = frame.readUInt16BE(0) === HEADER_MAGIC ? 10 + frame.readUInt16BE(8) * 4 : 0;
  const type = frame.readInt32BE(start) & 0xff;
  const body = start + 12 + frame.readInt32BE(start + 4);
  if (type === MESSAGE_TYPE.reply) return frame[body] === STOP || frame.readInt16BE(body + 1) === 0 ? RESULT : DECLARED;
  if (type !== MESSAGE_TYPE.exception) throw new Error(`a message of type ${type}, expected a reply or an exception`);
  const said = readApplicationException(frame.subarray(body));
  return { kind: 'failed', code: failureCodeOf(said.type, said.message), message: said.message };
}

/** Ring buffer that grows on demand. It holds when each pending call was due and when it was sent. */
class PipelinedRequests {
  #due = new Float64Array(RING_LENGTH_MIN);
  #sent = new Float64Array(RING_LENGTH_MIN);
  #first = 0;
  length = 0;

  /** When the first pending call was sent, in ms. */
  get sentAtMs(): number {
    return this.#sent[this.#first] as number;
  }

  push(dueAtMs: number, sentAtMs: number): void {
    if (this.length === this.#due.length) this.#grow();
    const at = (this.#first + this.length++) % this.#due.length;
    this.#due[at] = dueAtMs;
    this.#sent[at] = sentAtMs;
  }

  /** Removes the first call and returns when it was due, in ms. */
  shift(): number {
    const dueAtMs = this.#due[this.#first] as number;
    this.#first = (this.#first + 1) % this.#due.length;
    this.length--;
    return dueAtMs;
  }

  #grow(): void {
    const { length } = this.#due;
    const [due, sent] = [new Float64Array(length * 2), new Float64Array(length * 2)];
    for (let n = 0; n < length; n++) {
      due[n] = this.#due[(this.#first + n) % length] as number;
      sent[n] = this.#sent[(this.#first + n) % length] as number;
    }
    [this.#due, this.#sent, this.#first] = [due, sent, 0];
  }
}

const LOST: CallResultKind = { kind: 'failed', code: 'connection_lost', message: 'the connection broke' };
const NO_ANSWER: CallResultKind = { kind: 'failed', code: 'no_answer', message: 'the mesh sent no reply in time' };
/** Earlier than every call. */
const NOT_SENT_YET = Number.NEGATIVE_INFINITY;
const STOP = 0;
const CONNECT_MS = 5_000;
/** Larger than any reply that a mesh forwards. */
const FRAME_BYTES_MAX = 1024 * 1024 * 1024;
const RING_LENGTH_MIN = 4;
