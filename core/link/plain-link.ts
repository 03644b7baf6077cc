// A connection to a plain Thrift server, which knows nothing of the mesh. The server gets ordinary calls in the wire
// format that its deployment names, without a context, and no pings. A server that does not return sequence ids is
// assumed to reply in the order of the calls. Any other protocol error closes the connection, and every call in flight
// fails with resource_failed. A reply above the limits fails its own call with too_large. A PlainLink keeps no
// deadlines; the sender of a call does. Limits: bytes and nesting of a reply.
//
// A oneway call ends when it was written. When the server is done with it shows only in its reply to a later call on
// the same connection; until then `onewaySinceMs` says since when it may be at work.
import { asKatamariError, KatamariError, systemClock, type Clock } from '../mod.ts';
import { EMPTY_STRUCT, NO_REPLY_CONTEXT, type Call } from '../rpc/mod.ts';
import {
  type Encoding,
  type EncodingLimits,
  type MessageFacts,
  encodingOf,
  type WireFormat,
} from '../thrift/encodings/mod.ts';
import { type Interface, MESSAGE_TYPE, NOTHING } from '../thrift/mod.ts';
import type { ReplySink } from './link.ts';
import { ReceiveBuffer } from './receive-buffer.ts';

import type { Socket } from 'node:net';

export interface PlainLinkOptions {
  /** Name of the peer, for error messages. */
  readonly peer: string;
  /** Transport and protocol of the server. */
  readonly wireFormat: WireFormat;
  readonly limits: EncodingLimits;
  /** The interface of the server. The JSON protocol needs it to distinguish text from bytes. */
  readonly interface: Interface;
  readonly clock?: Clock;
  /** Called once with the reason when the connection has closed, before the calls in flight fail. */
  readonly onClose?: (error: KatamariError, end: PlainLinkEnd) => void;
  /**
   * Idle time in ms after which this server is known to close connections. A call that was sent after most of it and
   * finds the connection closed was probably not read, so it is not to blame.
   */
  readonly idleCloseMs?: () => number;
}

/** The state of a connection when it closed. */
export interface PlainLinkEnd {
  /** Calls that were in flight. */
  readonly lost: number;
  /** How long nothing was sent or received before. */
  readonly idleMs: number;
  /** Whether the server has answered a call on it. */
  readonly hasAnswered: boolean;
}

interface PlainLinkCall {
  readonly seqId: number;
  readonly method: string;
  readonly sink: ReplySink;
  /** Oneway calls that were sent before. */
  readonly oneways: number;
}

export class PlainLink {
  readonly #socket: Socket;
  readonly #options: PlainLinkOptions;
  readonly #encoding: Encoding;
  readonly #input = new ReceiveBuffer();
  /**
   * Calls in flight, in the order in which they were sent. They are few, so a search is cheap. Not a Map, for the
   * reason in the head of pending-table.ts.
   */
  readonly #inFlight: PlainLinkCall[] = [];
  /** Sinks of oneway calls that the kernel has not taken yet. */
  readonly #unwritten = new Set<ReplySink>();
  #lastSeqId = SEQ_ID_FIRST - 1;
  /** Whether the server returns sequence ids: it has returned one that only this side can have chosen. */
  #keepsSeqIds = false;
  #hasAnswered = false;
  readonly #clock: Clock;
  /** Oneway calls that were sent, and when the first was that may still be at work; undefined when none is. */
  #oneways = 0;
  #onewaySinceMs: number | undefined;
  #usedAtMs: number;
  /** How long the connection had been idle before the calls in flight. */
  #idleBeforeMs = 0;
  #closed: KatamariError | undefined;

  /**
   * @param socket must be connected
   * @throws Error for a wire format that does not exist
   */
  constructor(socket: Socket, options: PlainLinkOptions) {
    const { wireFormat, limits, interface: offered, clock = systemClock } = options;
    this.#socket = socket;
    this.#options = options;
    this.#clock = clock;
    this.#usedAtMs = clock.nowMs();
    this.#encoding = encodingOf(wireFormat, limits, ({ name, type }) =>
      type === MESSAGE_TYPE.reply ? offered.methods.get(name)?.result : undefined,
    );
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => this.#end(error.message));
    // A server that has ended its side sends no more replies, even if it leaves the other side open.
    socket.on('end', () => this.#onEnd());
    socket.on('close', () => this.#onEnd());
    if (socket.destroyed) queueMicrotask(() => this.#onEnd());
  }

  /** Calls in flight. */
  get inFlight(): number {
    return this.#inFlight.length + this.#unwritten.size;
  }

  get isOpen(): boolean {
    return this.#closed === undefined;
  }

  /** When the oldest oneway call was written that the server may still work on; undefined when there is none. */
  get onewaySinceMs(): number | undefined {
    return this.#onewaySinceMs;
  }

  /**
   * Sends a call; its end goes to `sink`.
   * @throws KatamariError resource_failed with facts.notRun when the connection has closed: nothing was written.
   */
  send(call: Call, sink: ReplySink): void {
    if (this.#closed !== undefined) throw new KatamariError(this.#closed.code, this.#closed.message, { notRun: true });
    const { method } = call;
    const known = this.#options.interface.methods.get(method);
    // A plain server knows from the method, not from the message type, whether a call is oneway.
    const isOneway = known?.oneway ?? call.oneway;
    const type = isOneway ? MESSAGE_TYPE.oneway : MESSAGE_TYPE.call;
    const seqId = this.#nextSeqId();
    const pieces: Uint8Array[] = [];
    try {
      this.#encoding.write(type, method, seqId, call.args, pieces, known?.args, call.headers);
    } catch (error) {
      sink.fail(asKatamariError(error));
      return;
    }
    const nowMs = this.#clock.nowMs();
    if (this.inFlight === 0) this.#idleBeforeMs = nowMs - this.#usedAtMs;
    this.#usedAtMs = nowMs;
    if (isOneway) {
      this.#oneways++;
      this.#onewaySinceMs ??= nowMs;
      this.#unwritten.add(sink);
    } else this.#inFlight.push({ seqId, method, sink, oneways: this.#oneways });
    this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece);
    // A oneway call ends when the kernel has taken its bytes (backpressure from a server that does not read).
    if (isOneway) this.#socket.write(NOTHING, (error) => this.#onWritten(sink, error));
    this.#socket.uncork();
  }

  /** Closes the connection now; calls in flight fail. */
  close(why = 'closed by this side'): void {
    this.#end(why);
  }

  #nextSeqId(): number {
    do this.#lastSeqId = this.#lastSeqId === 0x7fffffff ? SEQ_ID_FIRST : this.#lastSeqId + 1;
    while (this.#inFlight.some(({ seqId }) => seqId === this.#lastSeqId));
    return this.#lastSeqId;
  }

  #onWritten(sink: ReplySink, error: Error | null | undefined): void {
    // On some runtimes this callback is the first to report that the connection has closed.
    if (error) this.#end(error.message);
    if (!this.#unwritten.delete(sink)) return;
    sink.reply({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT }, undefined);
  }

  #onData(chunk: Buffer): void {
    if (this.#closed !== undefined) return;
    this.#usedAtMs = this.#clock.nowMs();
    const encoding = this.#encoding;
    const bytes = this.#input.join(chunk, this.#encoding.declaredBytes);
    let at = 0;
    try {
      while (at < bytes.length && this.isOpen) {
        const next = encoding.next(bytes, at, bytes.length);
        if (next === -1) break;
        at = next;
        this.#settle(encoding.head as MessageFacts, encoding.body);
      }
    } catch (error) {
      this.#onUnreadable(error as Error);
    }
    this.#input.keep(bytes, this.isOpen ? at : bytes.length);
  }

  #onUnreadable(error: Error): void {
    const { peer, wireFormat } = this.#options;
    const isTooLarge = error instanceof KatamariError && (error.code === 'too_large' || error.facts.isTooDeep === true);
    const [call] = this.#inFlight;
    if (isTooLarge && call !== undefined) {
      // The next reply begins after this one, of which nobody knows the end. The call is over and the server is well.
      this.#inFlight.shift();
      this.#end(`was left: its reply to ${call.method} is too large`, false);
      const why = `${peer} answered ${call.method} beyond the limits: ${error.message}`;
      call.sink.fail(new KatamariError('too_large', why));
      return;
    }
    const { transport, protocol } = wireFormat;
    const hint = `its deployment says transport ${transport} and protocol ${protocol}; check that its server has both`;
    this.#end(`broke the protocol: ${error.message}${this.#hasAnswered ? '' : `; ${hint}`}`);
  }

  #settle(head: MessageFacts, body: Uint8Array): void {
    if (head.type !== MESSAGE_TYPE.reply && head.type !== MESSAGE_TYPE.exception)
      throw new KatamariError(
        'bad_request',
        `message type ${head.type} where a reply (2) or an exception (3) was expected`,
      );
    const call = this.#take(head);
    this.#hasAnswered = true;
    // The server takes the calls of a connection one after the other.
    if (call?.oneways === this.#oneways) this.#onewaySinceMs = undefined;
    const isException = head.type === MESSAGE_TYPE.exception;
    call?.sink.reply({ isException, body, context: NO_REPLY_CONTEXT }, undefined);
  }

  /** Returns the call; undefined for a reply to a oneway call, which some servers send when it has failed. */
  #take({ seqId, name }: MessageFacts): PlainLinkCall | undefined {
    if (seqId >= SEQ_ID_FIRST) {
      this.#keepsSeqIds = true;
      const place = this.#inFlight.findIndex((call) => call.seqId === seqId);
      return place === -1 ? undefined : this.#inFlight.splice(place, 1)[0];
    }
    const [oldest] = this.#inFlight;
    if (oldest === undefined) throw new KatamariError('bad_request', `replied to "${name}", which was not called`);
    const { method } = oldest;
    if (this.#keepsSeqIds)
      throw new KatamariError(
        'bad_request',
        `replied with sequence id ${seqId}, expected that of the call, ${oldest.seqId}`,
      );
    if (name !== method && name !== '')
      throw new KatamariError('bad_request', `replied to "${name}", expected a reply to "${method}"`);
    this.#inFlight.shift();
    return oldest;
  }

  /** Most servers that cannot read a call close the connection without a reply. */
  #onEnd(): void {
    const isUnanswered = this.#inFlight.length > 0 && !this.#hasAnswered;
    const { transport, protocol } = this.#options.wireFormat;
    const why = `: it crashed, or does not speak transport ${transport} and protocol ${protocol}, as its deployment says`;
    this.#end(`closed the connection${isUnanswered ? ` before it answered anything${why}` : ''}`);
  }

  /** @param isByCall false when no call in flight can be the reason */
  #end(why: string, isByCall = true): void {
    if (this.#closed !== undefined) return;
    const { peer, idleCloseMs, onClose } = this.#options;
    const isIdleClose = this.#idleBeforeMs >= IDLE_CLOSE_SHARE * (idleCloseMs?.() ?? Number.POSITIVE_INFINITY);
    const facts = isByCall && !isIdleClose ? {} : { isSuspect: false };
    const error = new KatamariError('resource_failed', `${peer} ${why}`, facts);
    this.#closed = error;
    this.#onewaySinceMs = undefined;
    this.#socket.destroy();
    const left = [...this.#inFlight.splice(0).map(({ sink }) => sink), ...this.#unwritten];
    this.#unwritten.clear();
    const idleMs = this.#clock.nowMs() - this.#usedAtMs;
    // Report the close before the calls fail: their callers may retry at once, and must not choose this link.
    onClose?.(error, { lost: left.length, idleMs, hasAnswered: this.#hasAnswered });
    for (const sink of left) sink.fail(error);
  }
}

/** A call that was sent after this share of the server's idle time may have met its close. */
const IDLE_CLOSE_SHARE = 0.9;
/** The first sequence id. A server that numbers its replies itself uses low ids, so a high id is that of the call. */
const SEQ_ID_FIRST = 0x4000_0000;
