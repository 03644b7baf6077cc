// A connection to a plain Thrift server, which knows nothing of the mesh. The server gets ordinary calls in the wire
// format that its deployment names, without a context, and no pings. A oneway call ends when it was written. A server
// that does not return sequence ids is assumed to reply in the order of the calls. Any other protocol error closes
// the connection, and every call in flight fails with resource_failed. A PlainLink keeps no deadlines; the sender of
// a call does. Limits: bytes and nesting of a reply.
import { asKatamariError, KatamariError } from '../mod.ts';
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
  /** Called once with the reason when the connection has closed. */
  readonly onClose?: (error: KatamariError) => void;
}

interface PlainLinkCall {
  readonly seqId: number;
  readonly method: string;
  readonly sink: ReplySink;
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
  #closed: KatamariError | undefined;

  /**
   * @param socket must be connected
   * @throws Error for a wire format that does not exist
   */
  constructor(socket: Socket, options: PlainLinkOptions) {
    const { wireFormat, limits, interface: offered } = options;
    this.#socket = socket;
    this.#options = options;
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
    if (isOneway) this.#unwritten.add(sink);
    else this.#inFlight.push({ seqId, method, sink });
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
      const { transport, protocol } = this.#options.wireFormat;
      const hint = `its deployment says transport ${transport} and protocol ${protocol}; check that its server has both`;
      this.#end(`broke the protocol: ${(error as Error).message}${this.#hasAnswered ? '' : `; ${hint}`}`);
    }
    this.#input.keep(bytes, this.isOpen ? at : bytes.length);
  }

  #settle(head: MessageFacts, body: Uint8Array): void {
    if (head.type !== MESSAGE_TYPE.reply && head.type !== MESSAGE_TYPE.exception)
      throw new KatamariError(
        'bad_request',
        `message type ${head.type} where a reply (2) or an exception (3) was expected`,
      );
    const sink = this.#take(head);
    this.#hasAnswered = true;
    const isException = head.type === MESSAGE_TYPE.exception;
    sink?.reply({ isException, body, context: NO_REPLY_CONTEXT }, undefined);
  }

  /**
   * Returns the sink of the call; undefined for a reply to a oneway call, which some servers send when it has failed.
   */
  #take({ seqId, name }: MessageFacts): ReplySink | undefined {
    if (seqId >= SEQ_ID_FIRST) {
      this.#keepsSeqIds = true;
      const place = this.#inFlight.findIndex((call) => call.seqId === seqId);
      return place === -1 ? undefined : this.#inFlight.splice(place, 1)[0]?.sink;
    }
    const [oldest] = this.#inFlight;
    if (oldest === undefined) throw new KatamariError('bad_request', `replied to "${name}", which was not called`);
    const { method, sink } = oldest;
    if (this.#keepsSeqIds)
      throw new KatamariError(
        'bad_request',
        `replied with sequence id ${seqId}, expected that of the call, ${oldest.seqId}`,
      );
    if (name !== method && name !== '')
      throw new KatamariError('bad_request', `replied to "${name}", expected a reply to "${method}"`);
    this.#inFlight.shift();
    return sink;
  }

  /** Most servers that cannot read a call close the connection without a reply. */
  #onEnd(): void {
    const isUnanswered = this.#inFlight.length > 0 && !this.#hasAnswered;
    const { transport, protocol } = this.#options.wireFormat;
    const why = `: it crashed, or does not speak transport ${transport} and protocol ${protocol}, as its deployment says`;
    this.#end(`closed the connection${isUnanswered ? ` before it answered anything${why}` : ''}`);
  }

  #end(why: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = new KatamariError('resource_failed', `${this.#options.peer} ${why}`);
    this.#socket.destroy();
    const left = [...this.#inFlight.splice(0).map(({ sink }) => sink), ...this.#unwritten];
    this.#unwritten.clear();
    // Report the close before the calls fail: their callers may retry at once, and must not choose this link.
    this.#options.onClose?.(this.#closed);
    for (const sink of left) sink.fail(this.#closed);
  }
}

/** The first sequence id. A server that numbers its replies itself uses low ids, so a high id is that of the call. */
const SEQ_ID_FIRST = 0x4000_0000;
