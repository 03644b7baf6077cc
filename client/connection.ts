// One connection to a Thrift faceplate. It speaks THeader with strict binary inside; replies arrive in any order and
// are matched by sequence id. It has no deadlines and makes no decisions: it reports the end of each call to its
// owner. Limits: bytes and nesting of a reply, and bytes that the peer has not read. A reply that cannot be decoded
// fails its own call: the next frame begins after it, so the other calls on the connection go on. A connection on
// which calls time out without a byte from the peer is closed as dead.
//
// A faceplate that shuts down announces it with a message of sequence id 0. The client sends no further call on the
// connection, which closes after the last reply. A second such message means that the unanswered calls certainly did
// not run.

import type { Socket } from 'node:net';
import { ReceiveBuffer, WriteBuffer, PendingTable } from '../core/link/mod.ts';
import { asKatamariError, KatamariError } from '../core/mod.ts';
import { HeaderEncoding, HEADER_MAGIC, type MessageFacts } from '../core/thrift/encodings/mod.ts';
import { readApplicationException, MESSAGE_TYPE, readHead, type HeadersIn } from '../core/thrift/mod.ts';
import type { ClientCall } from './pending-call.ts';
import type { PreparedMethod } from './prepared-method.ts';

/** Receives the events of a connection. */
export interface ConnectionOwner {
  /** The reply to a call has arrived. */
  answered(call: ClientCall, isException: boolean, body: Uint8Array, headers: HeadersIn | undefined): void;
  /**
   * A call ended without a readable reply: `error` is set if the reply cannot be decoded, and undefined if a oneway
   * call was handed to the kernel.
   */
  finished(call: ClientCall, error: KatamariError | undefined): void;
  /** The peer sent or read data, so there may be room for more calls. */
  heard(connection: ClientConnection): void;
  /** The peer takes no further calls on this connection. */
  drains(connection: ClientConnection): void;
  /**
   * The connection closed. The calls in `left` have no reply; with `error.facts.notRun` they certainly did not run.
   */
  ended(connection: ClientConnection, left: readonly ClientCall[], error: KatamariError): void;
}

export class ClientConnection {
  /** Address as the caller gave it, for messages. */
  readonly address: string;
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #frameBytesMax: number;
  #encoding: HeaderEncoding;
  /** Bytes of a reply without a reader that are still to arrive. */
  #skipBytes = 0;
  readonly #receiveBuffer = new ReceiveBuffer();
  readonly #writeBuffer: WriteBuffer;
  readonly #inFlight = new PendingTable<ClientCall>();
  #hasReceived = false;
  #isLeaving = false;
  /** The peer has announced that unanswered calls did not run. */
  #isRestNotRun = false;
  #isClosed = false;
  #usedAtMs: number;
  /** Calls that timed out since the last byte was received, and when the first of them was sent. */
  #silentTimeouts = 0;
  #silentSinceMs = 0;

  /** @param socket a connected socket */
  constructor(socket: Socket, address: string, owner: ConnectionOwner, frameBytesMax: number, nowMs: number) {
    this.address = address;
    this.#socket = socket;
    this.#owner = owner;
    this.#frameBytesMax = frameBytesMax;
    this.#encoding = this.#newEncoding();
    this.#writeBuffer = new WriteBuffer(socket);
    this.#usedAtMs = nowMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('drain', () => owner.heard(this));
    socket.on('error', (error) => this.#end(error.message));
    // A peer that has half-closed the connection sends no more replies.
    socket.on('end', () => this.#end('closed the connection'));
    socket.on('close', () => this.#end('closed the connection'));
    if (socket.destroyed) queueMicrotask(() => this.#end('closed the connection'));
  }

  #newEncoding(): HeaderEncoding {
    return new HeaderEncoding({ frameBytesMax: this.#frameBytesMax + HEADER_BYTES_MAX, nestingMax: NESTING_MAX });
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Whether one more call may be sent. Bounds the bytes that are buffered for a peer that does not read. */
  hasRoom(callsMax: number): boolean {
    return (
      this.#inFlight.size < callsMax && this.#socket.writableLength < Math.max(UNSENT_BYTES_MAX, this.#frameBytesMax)
    );
  }

  /** Whether the peer has sent a message. */
  get hasReceived(): boolean {
    return this.#hasReceived;
  }

  /** Whether the connection has been idle for `idleMs`. */
  isStale(nowMs: number, idleMs: number): boolean {
    return this.#inFlight.size === 0 && nowMs - this.#usedAtMs >= idleMs;
  }

  /** Writes the call, whose `prepared` and `args` must be set. */
  send(call: ClientCall, nowMs: number): void {
    const { head, method } = call.prepared as PreparedMethod;
    const { args } = call;
    const seqId = this.#inFlight.add(call);
    const block = call.headers.blockFor(call.timeLeftMs(nowMs));
    const headBytes = 14 + block.length + head.length + 4;
    call.state = 'sent';
    call.connection = this;
    call.seqId = seqId;
    call.sentAtMs = nowMs;
    call.tries++;
    this.#usedAtMs = nowMs;
    const { slab, at } = this.#writeBuffer.room(headBytes, args);
    slab.writeInt32BE(headBytes - 4 + args.length, at);
    slab.writeUInt16BE(HEADER_MAGIC, at + 4);
    slab.writeUInt16BE(0, at + 6);
    slab.writeInt32BE(seqId, at + 8);
    slab.writeUInt16BE(block.length >> 2, at + 12);
    slab.set(block, at + 14);
    slab.set(head, at + 14 + block.length);
    slab.writeInt32BE(seqId, at + headBytes - 4);
    this.#writeBuffer.seal();
    if (method.oneway) this.#writeBuffer.whenWritten((error) => this.#onWritten(seqId, error));
  }

  /** Drops a call that ended on this side. A later reply to it is ignored. */
  forget(call: ClientCall): void {
    if (this.#inFlight.take(call.seqId) !== undefined) this.#leaveIfDone();
  }

  /** Like `forget`, for a call that timed out. Closes the connection if the peer appears to be dead. */
  forgetTimedOut(call: ClientCall, nowMs: number): void {
    this.forget(call);
    if (this.#silentTimeouts++ === 0) this.#silentSinceMs = call.sentAtMs;
    if (this.#silentTimeouts >= SILENT_TIMEOUTS_MAX && nowMs - this.#silentSinceMs >= SILENT_MS) {
      this.#end(
        `sent nothing while ${this.#silentTimeouts} calls timed out: it is frozen, or the network to it is down`,
      );
    }
  }

  /** Sends no more calls, and closes after the last reply. */
  leave(): void {
    this.#isLeaving = true;
    this.#leaveIfDone();
  }

  /** Closes the connection now. */
  close(): void {
    this.#end('was closed by this side');
  }

  #onWritten(seqId: number, error: Error | null | undefined): void {
    // On some runtimes this callback is the first to report that the connection has closed.
    if (error) this.#end(error.message);
    const call = this.#inFlight.take(seqId);
    if (call === undefined) return;
    this.#owner.finished(call, undefined);
    this.#leaveIfDone();
  }

  #onData(chunk: Buffer): void {
    if (this.#isClosed) return;
    this.#silentTimeouts = 0;
    const bytes = this.#receiveBuffer.join(chunk, this.#encoding.declaredBytes);
    let at = 0;
    while (at < bytes.length && !this.#isClosed) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, bytes.length - at);
        this.#skipBytes -= skipped;
        at += skipped;
        continue;
      }
      const next = this.#read(bytes, at);
      if (next === -1) break;
      at = next;
    }
    this.#receiveBuffer.keep(bytes, this.#isClosed ? bytes.length : at);
    if (this.#isClosed) return;
    this.#leaveIfDone();
    this.#owner.heard(this);
  }

  /** Reads the message at `at`. Returns the offset after it, or -1 if it is incomplete. */
  #read(bytes: Buffer, at: number): number {
    const encoding = this.#encoding;
    let next: number;
    try {
      next = encoding.next(bytes, at, bytes.length);
    } catch (thrown) {
      return this.#onUnreadable(bytes, at, asKatamariError(thrown));
    }
    if (next === -1) return -1;
    try {
      this.#onMessage(encoding.head as MessageFacts, encoding.body, encoding.headers);
    } catch (thrown) {
      this.#end(this.#describe(asKatamariError(thrown)));
    }
    return next;
  }

  #onMessage({ type, seqId, name }: MessageFacts, body: Uint8Array, headers: HeadersIn | undefined): void {
    if (type !== MESSAGE_TYPE.reply && type !== MESSAGE_TYPE.exception) {
      throw new KatamariError('bad_request', `expected a reply (2) or an exception (3), got message type ${type}`);
    }
    this.#hasReceived = true;
    if (seqId === 0) {
      this.#isRestNotRun = headers?.['katamari-not-run'] === '1';
      if (this.#isLeaving) return;
      this.#isLeaving = true;
      this.#owner.drains(this);
      return;
    }
    const call = this.#inFlight.get(seqId);
    // The call was canceled or has timed out.
    if (call === undefined) return;
    const expected = call.prepared?.method.name;
    if (name !== expected && name !== '') {
      throw new KatamariError('bad_request', `expected a reply to "${expected}", got one to "${name}"`);
    }
    this.#inFlight.take(seqId);
    this.#owner.answered(call, type === MESSAGE_TYPE.exception, body, headers);
  }

  /**
   * Handles a message that cannot be decoded. If it answers a call, it fails that call, and the rest of its frame is
   * skipped. Otherwise nothing on this connection can be trusted. Returns where to go on, or -1 to wait for its head.
   */
  #onUnreadable(bytes: Buffer, at: number, error: KatamariError): number {
    const refusal = refusalIn(bytes, at);
    if (refusal !== undefined) {
      this.#isRestNotRun = true;
      this.#end(`refused the connection: ${refusal}`);
      return bytes.length;
    }
    const length = bytes.readInt32BE(at);
    const here = bytes.length - at;
    const isMessage = length >= FIXED_BYTES && length <= SKIPPED_BYTES_MAX && beginsLikeHeader(bytes, at + 4);
    if (isMessage && here < 4 + FIXED_BYTES && error.code === 'too_large') return -1;
    const call = isMessage && here >= 12 ? this.#inFlight.take(bytes.readInt32BE(at + 8)) : undefined;
    if (call === undefined) {
      this.#end(this.#describe(error));
      return bytes.length;
    }
    const frameEnd = at + 4 + length;
    this.#skipBytes = Math.max(0, frameEnd - bytes.length);
    // The old one stopped inside the message.
    this.#encoding = this.#newEncoding();
    this.#hasReceived = true;
    this.#owner.finished(call, this.#refused(call, length, error));
    return Math.min(frameEnd, bytes.length);
  }

  #refused({ title }: ClientCall, replyBytes: number, { code, message, facts }: KatamariError): KatamariError {
    const limit = this.#frameBytesMax;
    if (replyBytes > limit) {
      const why = `The reply to ${title} has ${replyBytes} bytes, the limit is ${limit}: request less, or raise frameBytesMax`;
      return new KatamariError('too_large', why);
    }
    const isLimit = code === 'too_large' || facts.isTooDeep === true;
    return new KatamariError(isLimit ? 'too_large' : 'internal', `The reply to ${title} cannot be decoded: ${message}`);
  }

  #describe({ message }: KatamariError): string {
    return `broke the protocol: ${message}${this.#hasReceived ? '' : '; is that the Thrift port of a mesh?'}`;
  }

  #leaveIfDone(): void {
    if (!this.#isLeaving || this.#isClosed || this.#inFlight.size > 0) return;
    this.#isClosed = true;
    const socket = this.#socket;
    // Unsent bytes belong to calls that have ended.
    if (socket.writableLength > 0) socket.destroy();
    else socket.end(() => socket.destroy());
    this.#owner.ended(this, [], this.#why('is no longer used'));
  }

  #end(why: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    const left = this.#inFlight.takeAll();
    this.#owner.ended(this, left, this.#why(why));
  }

  #why(what: string): KatamariError {
    const facts = this.#isRestNotRun ? { notRun: true } : {};
    return new KatamariError('resource_failed', `The mesh at ${this.address} ${what}`, facts);
  }
}

/**
 * Returns the message with which a faceplate refused the connection; undefined for other data. It sends a plain
 * frame, whatever protocol the client uses.
 */
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

/** Whether the bytes from `at`, as far as they have arrived, are the begin of a THeader frame after its length. */
function beginsLikeHeader(bytes: Buffer, at: number): boolean {
  return bytes.length - at < 2 || bytes.readUInt16BE(at) === HEADER_MAGIC;
}

/** Above this many unsent bytes, calls wait until the peer reads. One message of the largest size always fits. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;
/** Magic number, flags, sequence id and length of the header, after the length of the frame. */
const FIXED_BYTES = 10;
/** Largest reply whose rest is skipped. */
const SKIPPED_BYTES_MAX = 0x40000000;
/** Largest header block of a THeader frame, which comes on top of the message. */
const HEADER_BYTES_MAX = 256 * 1024 + 14;
/** The mesh has checked the nesting of replies against its own limit. This one protects the stack. */
const NESTING_MAX = 1_000;
const KEEP_ALIVE_MS = 60_000;
/**
 * A live mesh answers every call by its deadline. If this many calls time out, over at least this time, without a
 * byte from the peer, the connection is considered dead.
 */
const SILENT_TIMEOUTS_MAX = 3;
const SILENT_MS = 1_000;
