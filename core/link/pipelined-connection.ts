// The server side of one connection on which a peer may have many calls in flight. Thrift, HTTP POST, line and link
// connections extend this class. A protocol says how bytes become calls (`read`) and how a reply becomes bytes
// (`writeReply`, `writeOut`). This class does the rest:
//
// - Backpressure: it stops reading the socket at a high mark of calls in flight or of reply bytes that the peer has
//   not read, and reads on at half of it.
// - Reply order: replies leave in the order of the calls (head-of-line blocking is the protocol's), or at once where
//   the protocol has call ids.
// - Gathering: the reply to the only call in flight goes to the socket at once. Several replies leave in one write at
//   the end of the microtask queue, and replies to calls of one read leave when that read ends.
// - Time limits: idle connections, incomplete requests, peers that do not read. The owner calls `sweep` for all its
//   connections, so none has a timer.
// - Graceful close: `beginGracefulClose`, `drain`, the last message to peers that understand one, then a half-close
//   and a wait. A kernel that closes a socket with unread bytes sends a TCP reset, and a reset discards the last
//   reply or error before the peer has read it.
//
// It is a base class and not an object beside the connection: a call then costs no closure, promise or object more. A
// process has at most four subclasses, which is as many shapes as V8 keeps in an inline cache.
import type { Clock } from '../mod.ts';
import { ReceiveBuffer } from './receive-buffer.ts';

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
   * Has sent the last reply and its FIN. Discards what arrives until the peer closes too, or until LINGER_MS without
   * progress.
   */
  | 'lingering'
  /** The socket is closed or has another owner. */
  | 'closed';

/** The limits of a connection; all connections of a server share one object. */
export interface PipelineLimits {
  /** High mark of calls in flight. Infinity: the protocol has a limit of its own. */
  readonly pipelineMax: number;
  /** High mark of reply bytes that the peer has not read. */
  readonly unreadBytesMax: number;
  /** The connection closes above so many reply bytes that the peer has not read. */
  readonly unreadBytesClose: number;
  /**
   * Closes a connection on which nothing has moved for so long, in ms, unless a call is in flight and the peer reads
   * its replies.
   */
  readonly idleMs: number;
  /** Longest time for a request that has begun to arrive, in ms. */
  readonly requestMs: number;
}

/** A call whose reply has a place in the order of its connection. */
export interface QueuedCall<Self> {
  next: Self | undefined;
  readonly isReady: boolean;
}

/** `Call`: the calls that are replied to in order; `never` where there are none. */
export abstract class PipelinedConnection<Call extends QueuedCall<Call>> {
  protected readonly socket: Socket;
  protected readonly clock: Clock;
  protected limits: PipelineLimits;
  protected state: ConnectionState = 'open';
  /** The oldest call without a reply. */
  protected first: Call | undefined;
  /** The newest call without a reply. */
  protected last: Call | undefined;
  /** Calls that were read and have not ended, queued or not. */
  protected inFlight = 0;
  /** Replies (and other messages) that were written since the last flush. */
  protected unflushed = 0;
  /** Bytes of replies that are ready and wait for those before them; counted by protocols that hold such bytes. */
  protected waitingBytes = 0;
  /** What was received and not used. */
  protected readonly input: ReceiveBuffer = new ReceiveBuffer();
  /** Length of the incomplete request, as far as `read` knows it; 0 when it does not. Makes room for it at once. */
  protected declaredBytes = 0;
  /** Received and not used when the drain began: requests that begin in these bytes are served. */
  protected begunBytes = 0;
  protected isReading = false;
  protected isPaused = false;
  /** The peer understands the message that announces the end, and closes the connection itself. */
  protected knowsGoAway = false;
  /** Something was received or sent since the last sweep: cheaper than reading the clock for each. */
  protected isActive = true;
  /** When the incomplete request began; NOTHING_BEGUN without one. */
  protected begunAtMs: number = NOTHING_BEGUN;
  #quietSinceMs: number;
  #unsentSeen = 0;

  // A connection that gives its socket away takes these back and no others: the socket has some of its own.
  readonly #listeners: Readonly<Record<string, (chunk: Buffer) => void>> = {
    data: (chunk) => this.#onData(chunk),
    drain: () => this.readOn(),
    end: () => this.onPeerEnd(),
    error: () => this.close(),
    close: () => this.close(),
  };

  constructor(socket: Socket, limits: PipelineLimits, clock: Clock) {
    this.socket = socket;
    this.limits = limits;
    this.clock = clock;
    this.#quietSinceMs = clock.nowMs();
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  /**
   * Serves the complete requests in `bytes` while `isServing` and not paused; returns the offset of the first byte
   * that was not used. Must not throw.
   */
  protected abstract read(bytes: Buffer): number;

  /** Adds a reply to the output; `call` is out of the queue and may be used again. */
  protected abstract writeReply(call: Call): void;

  /** Gives the output to the socket. */
  protected abstract writeOut(): void;

  /** The connection has closed, by whichever side: tells the calls in flight and the owner. Called once. */
  protected abstract onClosed(): void;

  /** A request has not become complete within `requestMs`. */
  protected abstract onOverdue(nowMs: number): void;

  /**
   * Tells a peer with `knowsGoAway` that no further call is taken, before the last replies and (`isEnd`) behind them.
   */
  protected sendGoAway(_isEnd: boolean): void {}

  /** A peer that has ended its side waits for nothing more, unless the protocol says otherwise. */
  protected onPeerEnd(): void {
    // Once this side has ended too, the socket closes by itself when all is written.
    if (this.state !== 'lingering') this.close();
  }

  protected get isServing(): boolean {
    return this.state === 'open' || this.state === 'draining' || this.state === 'quiescing';
  }

  protected get isIdle(): boolean {
    return this.inFlight === 0 && this.unflushed === 0 && this.socket.writableLength === 0;
  }

  /**
   * A busy connection drains now. An idle one serves what the next read brings, and drains then: its peer may have
   * sent a call already.
   */
  beginGracefulClose(): void {
    if (this.state === 'open' && this.isIdle && this.input.isEmpty) {
      this.state = 'quiescing';
      if (this.knowsGoAway) this.sendGoAway(false);
    } else this.drain();
  }

  /** Serves the requests that have begun, refuses later ones, and leaves after the last reply. */
  drain(): void {
    if (this.state !== 'open' && this.state !== 'quiescing') return;
    this.state = 'draining';
    this.begunBytes = this.input.bytes;
    const { isIdle } = this;
    // Nothing can be lost on it, so there is no need to wait for the peer, unless it was told and will close.
    if (isIdle && this.begunBytes === 0 && !this.knowsGoAway) {
      this.close();
      return;
    }
    if (!isIdle && this.knowsGoAway) this.sendGoAway(false);
    this.leaveIfDone();
  }

  /** Closes now. Calls in flight are cancelled. */
  close(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.socket.destroy();
    this.onClosed();
  }

  /** Checks the time limits. The owner calls it for all its connections, at intervals. */
  sweep(nowMs: number): void {
    const unsent = this.socket.writableLength;
    if (this.isActive || unsent !== this.#unsentSeen) {
      this.isActive = false;
      this.#unsentSeen = unsent;
      this.#quietSinceMs = nowMs;
    }
    const quietMs = nowMs - this.#quietSinceMs;
    const { idleMs, requestMs } = this.limits;
    if (this.state === 'lingering') {
      if (quietMs >= LINGER_MS) this.close();
    } else if (quietMs >= idleMs && (this.inFlight === 0 || unsent > 0)) {
      if (this.state === 'open' && this.knowsGoAway && this.isIdle) this.drain();
      else this.close();
    } else if (!this.isPaused && this.isServing && nowMs - this.begunAtMs >= requestMs) {
      this.onOverdue(nowMs);
    }
  }

  #onData(chunk: Buffer): void {
    if (!this.isServing && this.state !== 'handing-over') return;
    this.isActive = true;
    this.receive(chunk);
  }

  /** Handles bytes of the peer; a protocol with a buffer of its own overrides it. */
  protected receive(chunk: Buffer): void {
    const bytes = this.input.join(chunk, this.declaredBytes);
    if (this.state === 'quiescing') {
      this.state = 'draining';
      this.begunBytes = bytes.length;
    }
    if (!this.isPaused && this.state !== 'handing-over') {
      this.#read(bytes);
      return;
    }
    // A runtime may deliver what it had read before it was told to pause. A connection that is to be handed over is
    // read for a while: one that is not read does not see its peer's end.
    this.input.keep(bytes, 0);
    if (this.input.bytes > KEPT_BYTES_MAX) this.socket.pause();
  }

  /** Serves the requests that are complete and keeps the rest. */
  #read(bytes: Buffer): void {
    this.isReading = true;
    const at = this.read(bytes);
    this.isReading = false;
    this.flush();
    this.input.keep(bytes, this.isServing || this.state === 'handing-over' ? at : bytes.length);
    if (this.begunBytes > 0) this.begunBytes = Math.max(0, this.begunBytes - at);
    if (this.input.isEmpty) this.begunAtMs = NOTHING_BEGUN;
    else if (at > 0 || this.begunAtMs === NOTHING_BEGUN) this.begunAtMs = this.clock.nowMs();
    this.leaveIfDone();
    // Calls that ended during `read` did not read on.
    if (this.isPaused && this.#hasRoom()) queueMicrotask(this.readOn);
  }

  /** A request that begins at this offset of the bytes being read has begun after the drain did. */
  protected isLate(at: number): boolean {
    return this.state === 'draining' && at >= this.begunBytes;
  }

  /** Counts a call that was read; call `enqueue` too when its reply has a place in the order. */
  protected begin(): void {
    if (++this.inFlight >= this.limits.pipelineMax) this.pause();
  }

  protected enqueue(call: Call): void {
    if (this.last === undefined) this.first = call;
    else this.last.next = call;
    this.last = call;
  }

  /** The reply to a queued call is ready: it leaves now, or behind those before it. */
  protected ready(call: Call): void {
    if (this.state === 'closed') return;
    this.isActive = true;
    if (this.first === call) this.#sendReady(call);
    else if (this.waitingBytes > 0) this.checkUnread();
    this.#moveOn();
  }

  /** Sends the reply to a call that is not in the queue. */
  protected sendAtOnce(call: Call): void {
    this.isActive = true;
    const wasEmpty = this.unflushed === 0;
    this.inFlight--;
    this.unflushed++;
    this.writeReply(call);
    this.#gather(this.inFlight === 0, wasEmpty);
    this.#moveOn();
  }

  /** A call has ended that gets no reply, or whose reply was written elsewhere. */
  protected end(): void {
    this.isActive = true;
    this.inFlight--;
    this.#moveOn();
  }

  /** Sends the replies that are ready, from the first in the queue to the first that is not. */
  #sendReady(from: Call): void {
    const wasEmpty = this.unflushed === 0;
    let call: Call | undefined = from;
    do {
      const next: Call | undefined = call.next;
      this.first = next;
      if (next === undefined) this.last = undefined;
      // A finished call in the old generation would otherwise keep the whole chain alive.
      call.next = undefined;
      this.inFlight--;
      this.unflushed++;
      this.writeReply(call);
      call = next;
    } while (call !== undefined && call.isReady);
    this.#gather(call === undefined, wasEmpty);
  }

  /**
   * A reply behind which no other is to come leaves now. Replies to calls that are still being read leave together,
   * when all are read.
   */
  #gather(isLast: boolean, wasEmpty: boolean): void {
    if (this.isReading) {
      if (this.unflushed >= GATHERED_MAX) this.flush();
    } else if (isLast) this.flush();
    else if (wasEmpty) queueMicrotask(this.flush);
  }

  #moveOn(): void {
    if (this.isPaused) this.readOn();
    this.leaveIfDone();
  }

  protected readonly flush = (): void => {
    if (this.unflushed === 0 || this.state === 'closed') return;
    this.unflushed = 0;
    this.writeOut();
    this.checkUnread();
  };

  /**
   * A peer that calls and does not read its replies is not read either; one with far too many unread bytes is closed.
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

  /** Reads on when there is room again: the input first, then the socket. */
  protected readonly readOn = (): void => {
    if (!this.isPaused || this.isReading || this.state === 'closed' || !this.#hasRoom()) return;
    this.isPaused = false;
    if (!this.input.isEmpty && this.isServing) {
      // The time that a request has to become complete does not run while nothing is read.
      this.begunAtMs = NOTHING_BEGUN;
      this.#read(this.input.peek());
    }
    if (!this.isPaused) this.socket.resume();
  };

  /** Half of the high marks, so that a connection does not stop and start with every call. */
  #hasRoom(): boolean {
    if (this.inFlight > this.limits.pipelineMax / 2) return false;
    return this.socket.writableLength + this.waitingBytes <= this.limits.unreadBytesMax / 2;
  }

  protected leaveIfDone(): void {
    if (this.first !== undefined || this.isReading) return;
    const { state } = this;
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

  /** Gives the socket to another owner: none of this connection's listeners is left on it. */
  protected release(): void {
    this.state = 'closed';
    for (const [event, listener] of Object.entries(this.#listeners)) this.socket.off(event, listener);
  }
}

const NOTHING_BEGUN: number = Number.POSITIVE_INFINITY;
/** How long a peer may take to read its last replies and to close, in ms; starts again whenever it reads some. */
export const LINGER_MS = 1_000;
/** Replies to calls that were read together leave once there are so many. */
const GATHERED_MAX = 64;
/** Received while nothing is served, in bytes: above this the socket is paused. */
const KEPT_BYTES_MAX = 65_536;
