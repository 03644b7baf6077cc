// One connection of `katamari bench` to the Thrift port: writes frames that were made before, and looks at no more of
// an answer than whether it is one.
import { FrameReader } from '../../../core/link/mod.ts';
import type { Address } from '../../../core/mod.ts';
import { HEADER_MAGIC } from '../../../core/thrift/encodings/mod.ts';
import { readApplicationException, MESSAGE_TYPE } from '../../../core/thrift/mod.ts';
import { failureCodeOf } from './error-codes.ts';
import { DECLARED, RESULT, type CallResultKind } from './tally.ts';

// Answers come in the order of the calls, so a line of instants is all that is known of those under way. It never
// opens itself again.

import { connect, type Socket } from 'node:net';

export interface ConnectionEvents {
  /** `dueAtMs`: as it was given to `send`. */
  onEnding(connection: BenchConnection, ending: CallResultKind, dueAtMs: number): void;
  /** It is gone; every call on it has had its ending. */
  onLost(connection: BenchConnection): void;
}

export class BenchConnection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #line = new PipelinedRequests();
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

  /** @throws Error of the socket, or when it takes longer than CONNECT_MS */
  static open({ host, port }: Address, events: ConnectionEvents): Promise<BenchConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const tooLong = setTimeout(
        () => socket.destroy(new Error(`no answer within ${CONNECT_MS / 1_000} s`)),
        CONNECT_MS,
      );
      socket.once('error', (error) => {
        clearTimeout(tooLong);
        reject(error);
      });
      socket.once('connect', () => {
        clearTimeout(tooLong);
        resolve(new BenchConnection(socket, events));
      });
    });
  }

  /** Calls that were sent and have no answer yet. */
  get underWay(): number {
    return this.#line.length;
  }

  send(frame: Buffer, dueAtMs: number, nowMs: number): void {
    this.#line.push(dueAtMs, nowMs);
    this.#socket.write(frame);
  }

  /** Takes calls. */
  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /**
   * Gives up what was sent at `beforeMs` or earlier and has no answer, and with it the connection: what follows would
   * wait behind it.
   */
  giveUp(beforeMs: number): void {
    if (this.#line.length > 0 && this.#line.sentAtMs <= beforeMs) this.#close(beforeMs);
  }

  close(): void {
    this.#close(NOT_SENT_YET);
  }

  #onData(chunk: Buffer): void {
    // Calls that follow on these answers leave together.
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
    if (this.#line.length > 0) this.#end(ending);
    else this.#broken('an answer to no call');
  }

  #broken(message: string): void {
    this.#close(NOT_SENT_YET, { kind: 'failed', code: 'broken_answer', message });
  }

  #end(ending: CallResultKind): void {
    const dueAtMs = this.#line.shift();
    this.#events.onEnding(this, ending, dueAtMs);
  }

  /**
   * Closed first, because whoever hears of an ending may want to send the next call. Those sent at `beforeMs` or
   * earlier have waited too long, the others are lost with it.
   * @param first what became of the first
   */
  #close(beforeMs: number, first?: CallResultKind): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    if (first !== undefined && this.#line.length > 0) this.#end(first);
    while (this.#line.length > 0) this.#end(this.#line.sentAtMs <= beforeMs ? NO_ANSWER : LOST);
    this.#events.onLost(this);
  }
}

/**
 * Result, declared exception or failure, by the head of the message and the first field of its struct.
 * @throws Error when it is none
 */
function endingOf(frame: Buffer): CallResultKind {
  // A frame with a header: magic, flags, sequence id, then the size of the header in words.
  const start = frame.readUInt16BE(0) === HEADER_MAGIC ? 10 + frame.readUInt16BE(8) * 4 : 0;
  const type = frame.readInt32BE(start) & 0xff;
  const body = start + 12 + frame.readInt32BE(start + 4);
  if (type === MESSAGE_TYPE.reply) return frame[body] === STOP || frame.readInt16BE(body + 1) === 0 ? RESULT : DECLARED;
  if (type !== MESSAGE_TYPE.exception) throw new Error(`a message of type ${type}, expected a reply or an exception`);
  const said = readApplicationException(frame.subarray(body));
  return { kind: 'failed', code: failureCodeOf(said.type, said.message), message: said.message };
}

/** When each call under way was due and was sent, in a ring that grows. */
class PipelinedRequests {
  #due = new Float64Array(LINE_LENGTH_MIN);
  #sent = new Float64Array(LINE_LENGTH_MIN);
  #first = 0;
  length = 0;

  /** Of the first one. */
  get sentAtMs(): number {
    return this.#sent[this.#first] as number;
  }

  push(dueAtMs: number, sentAtMs: number): void {
    if (this.length === this.#due.length) this.#grow();
    const at = (this.#first + this.length++) % this.#due.length;
    this.#due[at] = dueAtMs;
    this.#sent[at] = sentAtMs;
  }

  /** Takes the first one out; when it was due. */
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
const NO_ANSWER: CallResultKind = { kind: 'failed', code: 'no_answer', message: 'the mesh answered nothing in time' };
/** Before every call. */
const NOT_SENT_YET = Number.NEGATIVE_INFINITY;
const STOP = 0;
const CONNECT_MS = 5_000;
/** More than any mesh lets through. */
const FRAME_BYTES_MAX = 1024 * 1024 * 1024;
const LINE_LENGTH_MIN = 4;
