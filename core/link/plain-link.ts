// One connection to a plain Thrift server, which knows nothing of a mesh: it is written to as its deployment says it reads, and sent nothing
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

// but calls as any client would send them. No context, no ping; a oneway call is over once it was written. Servers that do not hand sequence
// ids back are believed to answer in the order of the calls. Whatever else a server gets wrong ends the connection, and every call that is
// under way fails with resource_failed. Keeps no deadlines: whoever sends owns the call's time. Limits: bytes and nesting of an answer.

import type { Socket } from 'node:net';

export interface PlainLinkOptions {
  /** For messages: who is at the other end. */
  readonly peer: string;
  /** How it reads and writes. */
  readonly manner: WireFormat;
  readonly limits: EncodingLimits;
  /** What it offers: where its protocol leaves open whether something is text or bytes, this says it. */
  readonly interface: Interface;
  /** Called once when the connection has ended, with the reason. */
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
  readonly #inbox = new ReceiveBuffer();
  /** In the order in which they were sent. Few, and no Map, for the reason told in pending-table.ts. */
  readonly #underWay: PlainLinkCall[] = [];
  /** Of oneway calls that the kernel has not taken yet. */
  readonly #unwritten = new Set<ReplySink>();
  #lastSeqId = SEQ_ID_FIRST - 1;
  /** The server was seen to hand back an id that only this side can have made up. */
  #keepsSeqIds = false;
  #hasAnswered = false;
  #closed: KatamariError | undefined;

  /** @param socket connected already @throws Error for a manner that does not exist */
  constructor(socket: Socket, options: PlainLinkOptions) {
    const { manner, limits, interface: offered } = options;
    this.#socket = socket;
    this.#options = options;
    this.#encoding = encodingOf(manner, limits, ({ name, type }) =>
      type === MESSAGE_TYPE.reply ? offered.methods.get(name)?.result : undefined,
    );
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => this.#end(error.message));
    // A server that has ended its side answers no more, even if it leaves the other side open.
    socket.on('end', () => this.#onEnd());
    socket.on('close', () => this.#onEnd());
    if (socket.destroyed) queueMicrotask(() => this.#onEnd());
  }

  /** Calls that have not ended. */
  get underWay(): number {
    return this.#underWay.length + this.#unwritten.size;
  }

  get isOpen(): boolean {
    return this.#closed === undefined;
  }

  /**
   * Sends a call; its end goes to `sink`.
   * @throws KatamariError resource_failed with facts.notRun when the connection has ended: nothing was written.
   */
  send(call: Call, sink: ReplySink): void {
    if (this.#closed !== undefined) throw new KatamariError(this.#closed.code, this.#closed.message, { notRun: true });
    const { method } = call;
    const known = this.#options.interface.methods.get(method);
    // Stock servers go by the method and not by what the message says it is.
    const isOneway = known?.oneway ?? call.oneway;
    const type = isOneway ? MESSAGE_TYPE.oneway : MESSAGE_TYPE.call;
    const seqId = this.#nextSeqId();
    const pieces: Uint8Array[] = [];
    try {
      this.#encoding.write(type, method, seqId, call.args, pieces, known?.args);
    } catch (error) {
      sink.fail(asKatamariError(error));
      return;
    }
    if (isOneway) this.#unwritten.add(sink);
    else this.#underWay.push({ seqId, method, sink });
    this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece);
    // Only now: a server that does not read must not be given more and more.
    if (isOneway) this.#socket.write(NOTHING, (error) => this.#onWritten(sink, error));
    this.#socket.uncork();
  }

  /** Ends the connection now; what is under way fails. */
  close(why = 'closed by this side'): void {
    this.#end(why);
  }

  #nextSeqId(): number {
    do this.#lastSeqId = this.#lastSeqId === 0x7fffffff ? SEQ_ID_FIRST : this.#lastSeqId + 1;
    while (this.#underWay.some(({ seqId }) => seqId === this.#lastSeqId));
    return this.#lastSeqId;
  }

  #onWritten(sink: ReplySink, error: Error | null | undefined): void {
    // On some runtimes this hears first that the connection has ended.
    if (error) this.#end(error.message);
    if (!this.#unwritten.delete(sink)) return;
    sink.reply({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT }, undefined);
  }

  #onData(chunk: Buffer): void {
    if (this.#closed !== undefined) return;
    const encoding = this.#encoding;
    const bytes = this.#inbox.join(chunk, this.#encoding.declaredBytes);
    let at = 0;
    try {
      while (at < bytes.length && this.isOpen) {
        const next = encoding.next(bytes, at, bytes.length);
        if (next === -1) break;
        at = next;
        this.#settle(encoding.head as MessageFacts, encoding.body);
      }
    } catch (error) {
      const { transport, protocol } = this.#options.manner;
      const hint = `its deployment says transport ${transport} and protocol ${protocol}; check that its server has both`;
      this.#end(`broke the protocol: ${(error as Error).message}${this.#hasAnswered ? '' : `; ${hint}`}`);
    }
    this.#inbox.keep(bytes, this.isOpen ? at : bytes.length);
  }

  #settle(head: MessageFacts, body: Uint8Array): void {
    if (head.type !== MESSAGE_TYPE.reply && head.type !== MESSAGE_TYPE.exception)
      throw new KatamariError('bad_request', `message type ${head.type} where a reply (2) or an exception (3) was due`);
    const sink = this.#take(head);
    this.#hasAnswered = true;
    const isException = head.type === MESSAGE_TYPE.exception;
    sink?.reply({ isException, body, context: NO_REPLY_CONTEXT }, undefined);
  }

  /** Whose answer this is; undefined for that to a oneway call, which some servers give when it has failed. */
  #take({ seqId, name }: MessageFacts): ReplySink | undefined {
    if (seqId >= SEQ_ID_FIRST) {
      this.#keepsSeqIds = true;
      const place = this.#underWay.findIndex((call) => call.seqId === seqId);
      return place === -1 ? undefined : this.#underWay.splice(place, 1)[0]?.sink;
    }
    const [oldest] = this.#underWay;
    if (oldest === undefined) throw new KatamariError('bad_request', `answered "${name}", which it was not asked`);
    const { method, sink } = oldest;
    if (this.#keepsSeqIds)
      throw new KatamariError(
        'bad_request',
        `answered with sequence id ${seqId}, expected that of the call, ${oldest.seqId}`,
      );
    if (name !== method && name !== '')
      throw new KatamariError('bad_request', `answered "${name}" where the answer to "${method}" was due`);
    this.#underWay.shift();
    return sink;
  }

  /** Most servers that cannot read a call say nothing and hang up. */
  #onEnd(): void {
    const isPuzzled = this.#underWay.length > 0 && !this.#hasAnswered;
    const { transport, protocol } = this.#options.manner;
    const why = `: it crashed, or does not speak transport ${transport} and protocol ${protocol}, as its deployment says`;
    this.#end(`closed the connection${isPuzzled ? ` before it answered anything${why}` : ''}`);
  }

  #end(why: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = new KatamariError('resource_failed', `${this.#options.peer} ${why}`);
    this.#socket.destroy();
    const left = [...this.#underWay.splice(0).map(({ sink }) => sink), ...this.#unwritten];
    this.#unwritten.clear();
    // First, because whoever hears that a call has failed may send it again at once, and shall not choose this link.
    this.#options.onClose?.(this.#closed);
    for (const sink of left) sink.fail(this.#closed);
  }
}

/** Ids begin where no server that numbers its answers by itself will come: one of these in an answer is the call's own. */
const SEQ_ID_FIRST = 0x4000_0000;
