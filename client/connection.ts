// One connection to a Thrift faceplate. It speaks THeader with strict binary inside; replies arrive in any order and
// are matched by sequence id. It has no deadlines and makes no decisions: it reports the end of each call to its
// owner. Limits: bytes of a reply, and bytes that the peer has not read. A connection on which calls time out without
// a byte from the peer is closed as dead.
//
// A faceplate that shuts down announces it with a message of sequence id 0. The client sends no further call on the
// connection, which closes after the last reply. A second such message means that the unanswered calls certainly did
// not run.

import type { Socket } from 'node:net';
import { ReceiveBuffer, WriteBuffer, PendingTable } from '../core/link/mod.ts';
import { asKatamariError, KatamariError, DEFAULT_LIMITS } from '../core/mod.ts';
import { HeaderEncoding, HEADER_MAGIC, type MessageFacts } from '../core/thrift/encodings/mod.ts';
import { readApplicationException, MESSAGE_TYPE, readHead, type HeadersIn } from '../core/thrift/mod.ts';
import type { ClientCall } from './pending-call.ts';
import type { PreparedMethod } from './prepared-method.ts';

/** Receives the events of a connection. */
export interface ConnectionOwner {
  /** The reply to a call has arrived. */
  answered(call: ClientCall, isException: boolean, body: Uint8Array, headers: HeadersIn | undefined): void;
  /**
   * A call ended without a readable reply: `error` is set if the reply is too large, and undefined if a oneway call
   * was handed to the kernel.
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
  readonly #encoding: HeaderEncoding;
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
    this.#encoding = new HeaderEncoding({ frameBytesMax, nestingMax: DEFAULT_LIMITS.nestingMax });
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
    const encoding = this.#encoding;
    const bytes = this.#receiveBuffer.join(chunk, encoding.declaredBytes);
    let at = 0;
    try {
      while (at < bytes.length && !this.#isClosed) {
        const next = encoding.next(bytes, at, bytes.length);
        if (next === -1) break;
        at = next;
        this.#onMessage(encoding.head as MessageFacts, encoding.body, encoding.headers);
      }
    } catch (thrown) {
      this.#onProtocolError(bytes, at, asKatamariError(thrown));
    }
    this.#receiveBuffer.keep(bytes, this.#isClosed ? bytes.length : at);
    if (this.#isClosed) return;
    this.#leaveIfDone();
    this.#owner.heard(this);
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
   * Closes a connection whose data cannot be decoded. If one reply is too large, its call gets an error of its own.
   */
  #onProtocolError(bytes: Buffer, at: number, error: KatamariError): void {
    const refusal = refusalIn(bytes, at);
    if (refusal !== undefined) {
      this.#isRestNotRun = true;
      this.#end(`refused the connection: ${refusal}`);
      return;
    }
    if (error.code === 'too_large' && bytes.length - at >= 12 && bytes.readUInt16BE(at + 4) === HEADER_MAGIC) {
      const call = this.#inFlight.take(bytes.readInt32BE(at + 8));
      if (call !== undefined) {
        const why = `The reply to ${call.title} has ${bytes.readInt32BE(at)} bytes, the limit is ${this.#frameBytesMax}: request less, or raise frameBytesMax`;
        this.#owner.finished(call, new KatamariError('too_large', why));
      }
    }
    const hint = this.#hasReceived ? '' : '; is that the Thrift port of a mesh?';
    this.#end(`broke the protocol: ${error.message}${hint}`);
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

/** Above this many unsent bytes, calls wait until the peer reads. One message of the largest size always fits. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;
const KEEP_ALIVE_MS = 60_000;
/**
 * A live mesh answers every call by its deadline. If this many calls time out, over at least this time, without a
 * byte from the peer, the connection is considered dead.
 */
const SILENT_TIMEOUTS_MAX = 3;
const SILENT_MS = 1_000;
