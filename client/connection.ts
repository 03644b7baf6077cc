// One connection to a faceplate, over which calls go out and answers come in as they are ready: THeader with strict
// binary inside, sequence
import { ReceiveBuffer, WriteBuffer, PendingTable } from '../core/link/mod.ts';
import { asKatamariError, KatamariError, DEFAULT_LIMITS } from '../core/mod.ts';
import { HeaderEncoding, HEADER_MAGIC, type MessageFacts } from '../core/thrift/encodings/mod.ts';
import { readApplicationException, MESSAGE_TYPE, readHead, type HeadersIn } from '../core/thrift/mod.ts';
import type { ClientCall } from './pending-call.ts';
import type { PreparedMethod } from './prepared-method.ts';

// ids tell which answer is whose. It keeps no deadlines and decides nothing: what has become of a call it tells its
// owner. Limits: bytes of an answer, bytes that the peer does not take; and a peer that lets calls run out of time
// without a byte is given up.
//
// A faceplate that drains says so (message 0): no further call goes out here, and the connection ends after the last
// answer. When it says so a second time, what is unanswered has certainly not run.

import type { Socket } from 'node:net';

export interface ConnectionOwner {
  answered(call: ClientCall, isException: boolean, body: Uint8Array, headers: HeadersIn | undefined): void;
  /**
   * The answer is one that this side does not read, or the call is a oneway one and the kernel has it: `error`
   * undefined.
   */
  finished(call: ClientCall, error: KatamariError | undefined): void;
  /** Something was heard, or taken: there may be room for more. */
  heard(connection: ClientConnection): void;
  /** The peer takes no further call here. */
  drains(connection: ClientConnection): void;
  /** `left` have no answer; `error.facts.notRun` says whether that is certain to mean that they did not run. */
  ended(connection: ClientConnection, left: readonly ClientCall[], error: KatamariError): void;
}

export class ClientConnection {
  /** As it was given, for messages. */
  readonly address: string;
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #frameBytesMax: number;
  readonly #encoding: HeaderEncoding;
  readonly #inbox = new ReceiveBuffer();
  readonly #outbox: WriteBuffer;
  readonly #underWay = new PendingTable<ClientCall>();
  #hasHeard = false;
  #isLeaving = false;
  /** The peer has said that what is unanswered did not run. */
  #isRestNotRun = false;
  #isGone = false;
  #usedAtMs: number;
  /** Calls that ran out of time since the last byte came, and when the first of them was sent. */
  #silentTimeouts = 0;
  #silentSinceMs = 0;

  /** @param socket connected already */
  constructor(socket: Socket, address: string, owner: ConnectionOwner, frameBytesMax: number, nowMs: number) {
    this.address = address;
    this.#socket = socket;
    this.#owner = owner;
    this.#frameBytesMax = frameBytesMax;
    this.#encoding = new HeaderEncoding({ frameBytesMax, nestingMax: DEFAULT_LIMITS.nestingMax });
    this.#outbox = new WriteBuffer(socket);
    this.#usedAtMs = nowMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('drain', () => owner.heard(this));
    socket.on('error', (error) => this.#end(error.message));
    // A peer that has ended its side answers no more.
    socket.on('end', () => this.#end('closed the connection'));
    socket.on('close', () => this.#end('closed the connection'));
    if (socket.destroyed) queueMicrotask(() => this.#end('closed the connection'));
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  /** For one more call. A peer that does not read must not be given more and more. */
  hasRoom(callsMax: number): boolean {
    return (
      this.#underWay.size < callsMax && this.#socket.writableLength < Math.max(UNSENT_BYTES_MAX, this.#frameBytesMax)
    );
  }

  /** Something has come from the peer: it is there. */
  get hasHeard(): boolean {
    return this.#hasHeard;
  }

  /** Nothing is under way, and nothing was for so long. */
  isStale(nowMs: number, idleMs: number): boolean {
    return this.#underWay.size === 0 && nowMs - this.#usedAtMs >= idleMs;
  }

  /** The call must have its plan and arguments. */
  send(call: ClientCall, nowMs: number): void {
    const { head, method } = call.plan as PreparedMethod;
    const { args } = call;
    const seqId = this.#underWay.add(call);
    const block = call.wishes.blockFor(call.timeLeftMs(nowMs));
    const headBytes = 14 + block.length + head.length + 4;
    call.state = 'sent';
    call.connection = this;
    call.seqId = seqId;
    call.sentAtMs = nowMs;
    call.tries++;
    this.#usedAtMs = nowMs;
    const { slab, at } = this.#outbox.room(headBytes, args);
    slab.writeInt32BE(headBytes - 4 + args.length, at);
    slab.writeUInt16BE(HEADER_MAGIC, at + 4);
    slab.writeUInt16BE(0, at + 6);
    slab.writeInt32BE(seqId, at + 8);
    slab.writeUInt16BE(block.length >> 2, at + 12);
    slab.set(block, at + 14);
    slab.set(head, at + 14 + block.length);
    slab.writeInt32BE(seqId, at + headBytes - 4);
    this.#outbox.seal();
    if (method.oneway) this.#outbox.whenWritten((error) => this.#onWritten(seqId, error));
  }

  /** Forgets a call that has ended on this side; its answer will be nobody's. */
  forget(call: ClientCall): void {
    if (this.#underWay.take(call.seqId) !== undefined) this.#leaveIfDone();
  }

  /** As `forget`, for a call that had no answer in its time. */
  forgetLate(call: ClientCall, nowMs: number): void {
    this.forget(call);
    if (this.#silentTimeouts++ === 0) this.#silentSinceMs = call.sentAtMs;
    if (this.#silentTimeouts >= SILENT_TIMEOUTS_MAX && nowMs - this.#silentSinceMs >= SILENT_MS) {
      this.#end(
        `has not said a word while ${this.#silentTimeouts} calls ran out of time: it is frozen, or the way to it is cut`,
      );
    }
  }

  /** Sends nothing more, and ends after the last answer. */
  leave(): void {
    this.#isLeaving = true;
    this.#leaveIfDone();
  }

  /** Ends now. */
  close(): void {
    this.#end('was closed by this side');
  }

  #onWritten(seqId: number, error: Error | null | undefined): void {
    // On some runtimes this hears first that the connection has ended.
    if (error) this.#end(error.message);
    const call = this.#underWay.take(seqId);
    if (call === undefined) return;
    this.#owner.finished(call, undefined);
    this.#leaveIfDone();
  }

  #onData(chunk: Buffer): void {
    if (this.#isGone) return;
    this.#silentTimeouts = 0;
    const encoding = this.#encoding;
    const bytes = this.#inbox.join(chunk, encoding.declaredBytes);
    let at = 0;
    try {
      while (at < bytes.length && !this.#isGone) {
        const next = encoding.next(bytes, at, bytes.length);
        if (next === -1) break;
        at = next;
        this.#take(encoding.head as MessageFacts, encoding.body, encoding.headers);
      }
    } catch (thrown) {
      this.#onNonsense(bytes, at, asKatamariError(thrown));
    }
    this.#inbox.keep(bytes, this.#isGone ? bytes.length : at);
    if (this.#isGone) return;
    this.#leaveIfDone();
    this.#owner.heard(this);
  }

  #take({ type, seqId, name }: MessageFacts, body: Uint8Array, headers: HeadersIn | undefined): void {
    if (type !== MESSAGE_TYPE.reply && type !== MESSAGE_TYPE.exception) {
      throw new KatamariError('bad_request', `message type ${type} where a reply (2) or an exception (3) was due`);
    }
    this.#hasHeard = true;
    if (seqId === 0) {
      this.#isRestNotRun = headers?.['katamari-not-run'] === '1';
      if (this.#isLeaving) return;
      this.#isLeaving = true;
      this.#owner.drains(this);
      return;
    }
    const call = this.#underWay.get(seqId);
    // The answer to a call that was cancelled, or had no time left.
    if (call === undefined) return;
    const due = call.plan?.method.name;
    if (name !== due && name !== '') {
      throw new KatamariError('bad_request', `answered "${name}" where the answer to "${due}" was due`);
    }
    this.#underWay.take(seqId);
    this.#owner.answered(call, type === MESSAGE_TYPE.exception, body, headers);
  }

  /** What comes cannot be read on. One answer that is too large is the fault of its own call alone. */
  #onNonsense(bytes: Buffer, at: number, error: KatamariError): void {
    const refusal = refusalIn(bytes, at);
    if (refusal !== undefined) {
      this.#isRestNotRun = true;
      this.#end(`refused the connection: ${refusal}`);
      return;
    }
    if (error.code === 'too_large' && bytes.length - at >= 12 && bytes.readUInt16BE(at + 4) === HEADER_MAGIC) {
      const call = this.#underWay.take(bytes.readInt32BE(at + 8));
      if (call !== undefined) {
        const why = `The answer to ${call.title} has ${bytes.readInt32BE(at)} bytes, the limit is ${this.#frameBytesMax}: ask for less, or raise frameBytesMax`;
        this.#owner.finished(call, new KatamariError('too_large', why));
      }
    }
    const hint = this.#hasHeard ? '' : '; is that the Thrift port of a mesh?';
    this.#end(`broke the protocol: ${error.message}${hint}`);
  }

  #leaveIfDone(): void {
    if (!this.#isLeaving || this.#isGone || this.#underWay.size > 0) return;
    this.#isGone = true;
    const socket = this.#socket;
    // What is unsent here is of calls that nobody waits for any more.
    if (socket.writableLength > 0) socket.destroy();
    else socket.end(() => socket.destroy());
    this.#owner.ended(this, [], this.#why('is not needed any more'));
  }

  #end(why: string): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#socket.destroy();
    const left = this.#underWay.takeAll();
    this.#owner.ended(this, left, this.#why(why));
  }

  #why(what: string): KatamariError {
    const facts = this.#isRestNotRun ? { notRun: true } : {};
    return new KatamariError('resource_failed', `The mesh at ${this.address} ${what}`, facts);
  }
}

/** A faceplate that serves no call of a connection says so in a plain frame, whatever the client speaks. */
function refusalIn(bytes: Buffer, at: number): string | undefined {
  try {
    const end = at + 4 + bytes.readInt32BE(at);
    const head = readHead(bytes, at + 4, end);
    if (head === undefined || end > bytes.length || head.type !== MESSAGE_TYPE.exception || head.seqId !== 0)
      return undefined;
    return readApplicationException(bytes.subarray(head.bodyStart, end)).message;
  } catch {
    return undefined;
  }
}

/** Above this, or one message of the largest size, calls wait until the peer has taken some. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;
const KEEP_ALIVE_MS = 60_000;
/**
 * A mesh that is alive answers a call at its deadline at the latest; so many unanswered, over so long, and there is
 * none.
 */
const SILENT_TIMEOUTS_MAX = 3;
const SILENT_MS = 1_000;
