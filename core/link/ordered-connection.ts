// A PipelinedConnection of a protocol whose clients match replies to calls by their order, in part at least: Thrift,
// HTTP POST and lines. A protocol says how bytes become calls (`read`) and how a reply becomes bytes (`writeReply`,
// `writeOut`). This class adds to the base:
//
// - Reply order: replies leave in the order of the calls, or at once where a call has asked for it.
// - Gathering: the reply to the only call in flight goes to the socket at once. Several replies leave in one write at
//   the end of the microtask queue, and replies to calls of one read when that read ends.
// - Input: bytes of an incomplete request, and what arrives while the connection is paused.
// - Time limits: idle connections, incomplete requests, peers that do not read. The owner calls `sweep` for all its
//   connections, so none has a timer.
import type { Clock } from '../mod.ts';
import { LINGER_MS, PipelinedConnection, type PipelineLimits } from './pipelined-connection.ts';
import { ReceiveBuffer } from './receive-buffer.ts';

import type { Socket } from 'node:net';

export interface TimedPipelineLimits extends PipelineLimits {
  /**
   * Closes a connection on which nothing has moved for so long, in ms, unless a call is in flight and the peer reads.
   */
  readonly idleMs: number;
  /** Longest time for a request that has begun to become complete, in ms. */
  readonly requestMs: number;
}

/** A call whose reply has a place in the order of its connection. */
export interface QueuedCall<Self> {
  next: Self | undefined;
  readonly isReady: boolean;
}

export abstract class OrderedConnection<Call extends QueuedCall<Call>> extends PipelinedConnection {
  declare protected limits: TimedPipelineLimits;
  /** The oldest call without a reply. */
  protected first: Call | undefined;
  #last: Call | undefined;
  /** Messages that were written and not flushed. */
  protected unflushed = 0;
  /** What was received and not used. */
  protected readonly input: ReceiveBuffer = new ReceiveBuffer();
  /** Length of the incomplete request as far as `read` knows it, else 0: room is made for all of it at once. */
  protected declaredBytes = 0;
  /** When the incomplete request began; NOTHING_BEGUN without one. */
  protected begunAtMs: number = NOTHING_BEGUN;
  #quietSinceMs: number;
  #unsentSeen = 0;

  constructor(socket: Socket, limits: TimedPipelineLimits, clock: Clock) {
    super(socket, limits, clock);
    this.#quietSinceMs = clock.nowMs();
  }

  /**
   * Serves the complete requests in `bytes`, as long as the connection is serving and not paused. Returns the offset
   * of the first byte that was not used. Must not throw.
   */
  protected abstract read(bytes: Buffer): number;

  /** Adds a reply to the output. The call is out of the queue and may be used again. */
  protected abstract writeReply(call: Call): void;

  /** Gives the output to the socket. */
  protected abstract writeOut(): void;

  /** A request has not become complete within `requestMs`. */
  protected abstract onOverdue(nowMs: number): void;

  protected override get isIdle(): boolean {
    return super.isIdle && this.unflushed === 0 && this.input.isEmpty;
  }

  protected override get hasRepliesDue(): boolean {
    return this.first !== undefined || this.isReading;
  }

  override drain(): void {
    if (this.isServing && this.state !== 'draining') this.begunBytes = this.input.bytes;
    super.drain();
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
      // Starts again whenever the peer reads some of its last replies.
      if (quietMs >= LINGER_MS) this.close();
    } else if (quietMs >= idleMs && (this.inFlight === 0 || unsent > 0)) {
      if (this.state === 'open' && this.knowsGoAway && this.isIdle) this.drain();
      else this.close();
    } else if (!this.isPaused && this.isServing && nowMs - this.begunAtMs >= requestMs) {
      this.onOverdue(nowMs);
    }
  }

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

  protected override readKept(): void {
    if (this.input.isEmpty || !this.isServing) return;
    // The time that a request has to become complete does not run while nothing is read.
    this.begunAtMs = NOTHING_BEGUN;
    this.#read(this.input.peek());
  }

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
    // Calls that ended during `read` could not read on.
    if (this.isPaused && this.hasRoom) queueMicrotask(this.readOn);
  }

  /** Whether the request at this offset of the bytes that are being read has begun after the drain. */
  protected isLate(at: number): boolean {
    return this.state === 'draining' && at >= this.begunBytes;
  }

  /** Gives a call its place in the order of the replies. */
  protected enqueue(call: Call): void {
    if (this.#last === undefined) this.first = call;
    else this.#last.next = call;
    this.#last = call;
  }

  /** The reply to a queued call is ready: it leaves now, or behind those before it. */
  protected ready(call: Call): void {
    if (this.state === 'closed') return;
    this.isActive = true;
    if (this.first === call) this.#sendReady(call);
    else if (this.waitingBytes > 0) this.checkUnread();
    this.moveOn();
  }

  /** Sends the reply to a call that is not in the queue. */
  protected sendAtOnce(call: Call): void {
    const wasEmpty = this.unflushed === 0;
    this.unflushed++;
    this.writeReply(call);
    this.#gather(this.inFlight === 1, wasEmpty);
    this.end();
  }

  /** Sends the replies that are ready, from the first in the queue to the first that is not. */
  #sendReady(from: Call): void {
    const wasEmpty = this.unflushed === 0;
    let call: Call | undefined = from;
    do {
      const next: Call | undefined = call.next;
      this.first = next;
      if (next === undefined) this.#last = undefined;
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
   * A reply behind which no other is to come leaves now. Replies to calls of one read leave together, when all of
   * them are read.
   */
  #gather(isLast: boolean, wasEmpty: boolean): void {
    if (this.isReading) {
      if (this.unflushed >= GATHERED_MAX) this.flush();
    } else if (isLast) this.flush();
    else if (wasEmpty) queueMicrotask(this.flush);
  }

  protected readonly flush = (): void => {
    if (this.unflushed === 0 || this.state === 'closed') return;
    this.unflushed = 0;
    this.writeOut();
    this.checkUnread();
  };
}

const NOTHING_BEGUN: number = Number.POSITIVE_INFINITY;
/** Replies to calls of one read leave once there are so many. */
const GATHERED_MAX = 64;
/** Bytes received while nothing is served: above this the socket is paused. */
const KEPT_BYTES_MAX = 65_536;
