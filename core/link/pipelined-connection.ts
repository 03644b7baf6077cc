// The server side of one connection on which a peer may have many calls in flight. Link, Thrift, HTTP POST and line
// connections extend this class, the last three by way of OrderedConnection (ordered-connection.ts), which adds
// ordered replies. This class does what all four need:
//
// - Backpressure: it stops reading the socket at a high-water mark of calls in flight or of reply bytes that the peer
//   has not read, and resumes at half of it.
// - Sums: it books the bytes that it holds in the ledger of the process (core/byte-ledger.ts), and stops reading while
//   a sum is full.
// - Graceful close: `beginGracefulClose`, `drain`, a go-away message to peers that understand it, then a half-close
//   and a wait. A kernel that closes a socket with unread bytes sends a TCP reset, and a reset discards the last
//   reply or error before the peer has read it.
// - One state, and one place where a connection ends.
//
// It is a base class instead of a separate object, so that a call costs no additional closure, promise or object. A
// process has at most four subclasses, which is as many shapes as V8 keeps in an inline cache.
import { KatamariError, type ByteAccount, type Clock } from '../mod.ts';

import type { Socket } from 'node:net';

export type ConnectionState =
  /** Reads requests and replies to them. */
  | 'open'
  /** Was idle when the graceful close began. Serves the requests in the next read, then drains. */
  | 'quiescing'
  /** Serves the requests that began before the drain, refuses later ones, and leaves after the last reply. */
  | 'draining'
  /** Reads no more requests and discards what arrives. Leaves after the last reply. */
  | 'finishing'
  /** Serves no more requests and keeps what arrives. Another owner gets the socket after the last reply. */
  | 'handing-over'
  /**
   * Has sent the last reply and its FIN. Discards what arrives until the peer closes too or LINGER_MS are over.
   */
  | 'lingering'
  /** The socket is closed or has another owner. */
  | 'closed';

/** The limits of a connection; all connections of a server may share one object. */
export interface PipelineLimits {
  /** High-water mark of calls in flight. Infinity: the protocol refuses further calls itself. */
  readonly pipelineMax: number;
  /** High-water mark of reply bytes that the peer has not read. */
  readonly unreadBytesMax: number;
  /** The connection is closed when the peer has not read more than this many reply bytes. */
  readonly unreadBytesClose: number;
}

export abstract class PipelinedConnection {
  protected readonly socket: Socket;
  protected readonly clock: Clock;
  /** What this connection holds; closed with it. */
  readonly account: ByteAccount;
  protected limits: PipelineLimits;
  protected state: ConnectionState = 'open';
  /** Calls that were read and have not ended. */
  protected inFlight = 0;
  /** Bytes of replies that are ready and wait for earlier replies. */
  protected waitingBytes = 0;
  /** Bytes of the requests in flight. */
  protected requestBytes = 0;
  /** Bytes of requests that had begun before the drain and are not served yet. */
  protected begunBytes = 0;
  protected isReading = false;
  protected isPaused = false;
  /** Since when a full sum keeps the connection from being read; NEVER while none does. */
  protected heldBackAtMs: number = NEVER;
  /** Whether the peer understands the go-away message. Such a peer closes the connection itself. */
  protected knowsGoAway = false;
  /** Whether bytes were received or sent since the last sweep. Cheaper than reading the clock each time. */
  protected isActive = true;

  // `release` removes exactly these listeners, because the socket has other listeners of its own.
  readonly #listeners: Readonly<Record<string, (chunk: Buffer) => void>> = {
    data: (chunk) => this.#onData(chunk),
    drain: () => this.onDrain(),
    end: () => this.onPeerEnd(),
    error: () => this.close(),
    close: () => this.close(),
  };

  constructor(socket: Socket, limits: PipelineLimits, clock: Clock, account: ByteAccount) {
    this.socket = socket;
    this.account = account;
    this.limits = limits;
    this.clock = clock;
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  /** Handles bytes from the peer. Must not throw. */
  protected abstract receive(chunk: Buffer): void;

  /** Gives all output to the socket. */
  protected abstract readonly flush: () => void;

  /** Called once when either side has closed the connection. Notifies the calls in flight and the owner. */
  protected abstract onClosed(): void;

  /**
   * Tells a peer with `knowsGoAway` that no further calls are accepted. Called before the last replies, and again
   * after them (`isEnd`).
   */
  protected sendGoAway(_isEnd: boolean): void {}

  /** Called when the peer has ended its side. By default, such a peer expects no more replies. */
  protected onPeerEnd(): void {
    // If this side has ended too, the socket closes by itself when all output is written.
    if (this.state !== 'lingering') this.close();
  }

  /** Handles bytes that were kept while the connection was paused. */
  protected readKept(): void {}

  /** Bytes that were received and are no complete request yet. */
  protected abstract get inputBytes(): number;

  /** The kernel has taken all output. */
  protected onDrain(): void {
    this.recount();
    this.readOn();
  }

  /** Books the bytes that the connection holds, and holds it back while a sum is full. */
  protected recount(): void {
    if (this.state === 'closed') return;
    const { account } = this;
    account.set(this.requestBytes + this.waitingBytes + this.inputBytes + this.socket.writableLength);
    if (account.isFull) this.onFull();
  }

  /** A sum is full: by default, the connection is not read until there is room. */
  protected onFull(): void {
    this.pause();
    if (!this.isPaused || this.heldBackAtMs !== NEVER) return;
    this.heldBackAtMs = this.clock.nowMs();
    this.account.whenRoom(() => {
      this.heldBackAtMs = NEVER;
      this.readOn();
    });
  }

  protected get isServing(): boolean {
    return this.state === 'open' || this.state === 'draining' || this.state === 'quiescing';
  }

  /** Whether no call is in flight and no bytes are unsent. A subclass adds the input that it has not used. */
  protected get isIdle(): boolean {
    return this.inFlight === 0 && this.socket.writableLength === 0;
  }

  /** Whether a reply is still to be written, or the code that is reading now may add one. */
  protected get hasRepliesDue(): boolean {
    return this.inFlight > 0 || this.isReading;
  }

  /**
   * Begins a graceful close. A busy connection drains now. An idle one first serves the requests of its next read,
   * because its peer may already have sent a call.
   */
  beginGracefulClose(): void {
    if (this.state === 'open' && this.isIdle) {
      this.state = 'quiescing';
      if (this.knowsGoAway) this.sendGoAway(false);
    } else this.drain();
  }

  /** Serves the requests that have begun, refuses later ones, and leaves after the last reply. */
  drain(): void {
    if (this.state !== 'open' && this.state !== 'quiescing') return;
    const { isIdle } = this;
    this.state = 'draining';
    // An idle connection can lose nothing, so it closes now, unless the peer was told and closes it.
    if (isIdle && !this.knowsGoAway) {
      this.close();
      return;
    }
    if (!isIdle && this.knowsGoAway) this.sendGoAway(false);
    this.leaveIfDone();
  }

  /** Closes now. Calls in flight are canceled. */
  close(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.account.close();
    this.socket.destroy();
    this.onClosed();
  }

  #onData(chunk: Buffer): void {
    if (!this.isServing && this.state !== 'handing-over') return;
    this.isActive = true;
    this.receive(chunk);
  }

  /** Counts a call that was read. */
  protected begin(): void {
    if (++this.inFlight >= this.limits.pipelineMax) this.pause();
  }

  /** Called when a call has ended and its reply, if any, was added to the output. */
  protected end(): void {
    this.isActive = true;
    this.inFlight--;
    this.moveOn();
  }

  /** Resumes reading and leaves, if the call that has ended was the last obstacle. */
  protected moveOn(): void {
    if (this.isPaused) this.readOn();
    this.leaveIfDone();
  }

  /**
   * Backpressure on output: pauses the socket of a peer that does not read its replies, and closes it at far too many
   * unread bytes.
   */
  protected checkUnread(): void {
    const unread = this.socket.writableLength + this.waitingBytes;
    if (unread < this.limits.unreadBytesMax) return;
    this.pause();
    if (unread > this.limits.unreadBytesClose) this.close();
  }

  protected pause(): void {
    if (this.isPaused || !this.isServing) return;
    this.isPaused = true;
    this.socket.pause();
  }

  /** Resumes reading when there is room again: first the kept bytes, then the socket. */
  protected readonly readOn = (): void => {
    if (!this.isPaused || this.isReading || this.state === 'closed' || !this.hasRoom) return;
    this.isPaused = false;
    this.readKept();
    if (!this.isPaused) this.socket.resume();
  };

  /** Low-water mark: half of the high-water marks, so that a connection does not pause and resume with every call. */
  protected get hasRoom(): boolean {
    if (this.inFlight > this.limits.pipelineMax / 2 || this.heldBackAtMs !== NEVER) return false;
    return this.socket.writableLength + this.waitingBytes <= this.limits.unreadBytesMax / 2;
  }

  protected leaveIfDone(): void {
    const { state } = this;
    if (state === 'open' || this.hasRepliesDue) return;
    if (state === 'finishing' || state === 'handing-over' || (state === 'draining' && this.begunBytes === 0))
      this.leave();
  }

  /** All replies are written: ends this side and lingers. */
  protected leave(): void {
    if (this.knowsGoAway) this.sendGoAway(true);
    this.flush();
    if (this.state === 'closed') return;
    this.state = 'lingering';
    this.isActive = true;
    this.socket.end();
    this.socket.resume();
  }

  /** Gives the socket to another owner: no listener of this connection is left on it. */
  protected release(): void {
    this.state = 'closed';
    for (const [event, listener] of Object.entries(this.#listeners)) this.socket.off(event, listener);
  }
}

/** The error in place of an answer that is not kept. The call has run, so it is not sent again. */
export function tooMuchToSend(bytes: number, account: ByteAccount): KatamariError {
  const why = `An answer of ${bytes} bytes was dropped: ${account.fullness(bytes)}`;
  return new KatamariError('too_large', why, { httpStatus: 503 });
}

/** The error for requests that no room was found for in time. */
export function noRoom(account: ByteAccount, waitedMs: number): KatamariError {
  return new KatamariError('overloaded', `Found no room for the request in ${waitedMs} ms: ${account.fullness()}`, {
    notRun: true,
    retryAfterMs: 1_000,
  });
}

export const NEVER: number = Number.POSITIVE_INFINITY;
/** How long a peer may take to read its last replies and to close, in ms. */
export const LINGER_MS = 1_000;
