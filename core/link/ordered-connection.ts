// A PipelinedConnection for protocols in which all or some clients match replies to calls by order: Thrift, HTTP POST
// and lines. A subclass turns bytes into calls (`read`) and replies into bytes (`writeReply`, `writeOut`). This class
// adds to the base:
//
// - Reply order: replies leave in the order of the calls, or at once if the call asks for it.
// - Write coalescing: a reply is written at once when no other call is in flight. Otherwise the replies that are
//   ready share one write in the next microtask. Replies that become ready during a read are written when the read
//   ends.
// - Peers that have ended their side (a half-close) get the replies to the requests that they have sent.
// - Input buffer: an incomplete request, and bytes that arrive while the connection is paused.
// - Time limits: idle connections, incomplete requests, peers that do not read. The owner calls `sweep` for all its
//   connections, so no connection has a timer of its own.
import type { ByteAccount, Clock } from '../mod.ts';
import { LINGER_MS, NEVER, PipelinedConnection, type PipelineLimits } from './pipelined-connection.ts';
import { ReceiveBuffer } from './receive-buffer.ts';

import type { Socket } from 'node:net';

export interface TimedPipelineLimits extends PipelineLimits {
  /**
   * Idle timeout in ms: closes a connection on which no byte was received or sent for this time. A connection with a
   * call in flight stays open unless its peer does not read replies.
   */
  readonly idleMs: number;
  /** Time in ms in which a request must be complete after it has begun. */
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
  /** Number of messages that were written and not flushed. */
  protected unflushed = 0;
  /** Bytes that were received and not used. */
  protected readonly input: ReceiveBuffer = new ReceiveBuffer();
  /**
   * Length of the incomplete request, or 0 while `read` does not know it. `input` makes room for all of it at once.
   */
  protected declaredBytes = 0;
  /** When the incomplete request began; NEVER without one. */
  protected begunAtMs: number = NEVER;
  #quietSinceMs: number;
  #unsentSeen = 0;
  #hasPeerEnded = false;
  /** The first byte of the next reply was written. */
  #isSentAhead = false;

  constructor(socket: Socket, limits: TimedPipelineLimits, clock: Clock, account: ByteAccount) {
    super(socket, limits, clock, account);
    this.#quietSinceMs = clock.nowMs();
  }

  /**
   * Serves the complete requests in `bytes`, as long as the connection is serving and not paused. Returns the offset
   * of the first byte that was not used. Must not throw.
   */
  protected abstract read(bytes: Buffer): number;

  /** Adds a reply to the output. The call has left the queue, so its object may be reused. */
  protected abstract writeReply(call: Call): void;

  /** Gives the output to the socket. */
  protected abstract writeOut(): void;

  /** Called when a request was not complete within `requestMs`. */
  protected abstract onOverdue(nowMs: number): void;

  /** The first byte of every reply; undefined if replies do not have the same one. */
  protected get replyStart(): number | undefined {
    return undefined;
  }

  /** Whether the output must leave out its first byte, because it was written already. Called once for each output. */
  protected takeSentAhead(): boolean {
    const isSentAhead = this.#isSentAhead;
    this.#isSentAhead = false;
    return isSentAhead;
  }

  /** Called when a full sum has kept the connection from being read for `requestMs`, with a request begun. */
  protected abstract onOverloaded(nowMs: number): void;

  protected override get inputBytes(): number {
    return this.input.bytes;
  }

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
    this.recount();
    const unsent = this.socket.writableLength;
    if (this.isActive || unsent !== this.#unsentSeen) {
      this.isActive = false;
      this.#unsentSeen = unsent;
      this.#quietSinceMs = nowMs;
    }
    const quietMs = nowMs - this.#quietSinceMs;
    const { idleMs, requestMs } = this.limits;
    if (this.state === 'lingering') {
      // The quiet time restarts whenever the peer reads some of its last replies.
      if (quietMs >= LINGER_MS) this.close();
    } else if (quietMs >= idleMs && (this.inFlight === 0 || unsent > 0)) {
      if (this.state === 'open' && this.knowsGoAway && this.isIdle) this.drain();
      else this.close();
    } else if (!this.isPaused && this.isServing && nowMs - this.begunAtMs >= requestMs) {
      this.onOverdue(nowMs);
    } else if (!this.input.isEmpty && this.isServing && nowMs - this.heldBackAtMs >= requestMs) {
      this.onOverloaded(nowMs);
    }
    if (this.#hasPeerEnded) this.#probe();
  }

  /**
   * Finds out whether a peer that has ended its side has gone or still reads. Only a write can tell: the system of a
   * peer that has gone answers it with a reset. So the first byte of the next reply is sent ahead, and later an empty
   * write reports the reset.
   */
  #probe(): void {
    const { replyStart } = this;
    if (replyStart === undefined || this.state === 'closed' || this.unflushed > 0 || !this.hasRepliesDue) return;
    this.socket.write(this.#isSentAhead ? NO_BYTES : Uint8Array.of(replyStart));
    this.#isSentAhead = true;
  }

  protected override onPeerEnd(): void {
    this.#hasPeerEnded = true;
    this.#finishIfEnded();
    this.#probe();
    // The reset is reported by a second write. Later ones come with each sweep.
    if (this.hasRepliesDue) this.clock.after(PROBE_AGAIN_MS, () => this.#probe());
  }

  /** After the last request of a peer that has ended its side: leaves when all replies are written. */
  #finishIfEnded(): void {
    // Requests that backpressure holds back are served first. An incomplete one is never completed.
    if (!this.#hasPeerEnded || !this.isServing || (this.isPaused && !this.input.isEmpty)) return;
    this.state = 'finishing';
    this.leaveIfDone();
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
    // After `pause`, a runtime may still deliver bytes that it had already read. A connection in handover is not
    // paused at once, because a paused socket does not report that its peer has closed.
    this.input.keep(bytes, 0);
    if (this.input.bytes > KEPT_BYTES_MAX) this.socket.pause();
    this.recount();
  }

  protected override readKept(): void {
    if (this.input.isEmpty || !this.isServing) return;
    // The time limit of a request does not run while the connection is paused.
    this.begunAtMs = NEVER;
    this.#read(this.input.peek());
  }

  #read(bytes: Buffer): void {
    this.isReading = true;
    const at = this.read(bytes);
    this.isReading = false;
    this.flush();
    this.input.keep(bytes, this.isServing || this.state === 'handing-over' ? at : bytes.length);
    if (this.begunBytes > 0) this.begunBytes = Math.max(0, this.begunBytes - at);
    if (this.input.isEmpty) this.begunAtMs = NEVER;
    else if (at > 0 || this.begunAtMs === NEVER) this.begunAtMs = this.clock.nowMs();
    this.recount();
    this.leaveIfDone();
    this.#finishIfEnded();
    // Calls that ended during `read` could not resume the socket.
    if (this.isPaused && this.hasRoom) queueMicrotask(this.readOn);
  }

  /** Whether the request at this offset of the current input began after the drain. */
  protected isLate(at: number): boolean {
    return this.state === 'draining' && at >= this.begunBytes;
  }

  /** Gives a call its place in the order of the replies. */
  protected enqueue(call: Call): void {
    if (this.#last === undefined) this.first = call;
    else this.#last.next = call;
    this.#last = call;
  }

  /** Called when the reply to a queued call is ready. Sends it now, or later if earlier calls have no reply yet. */
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
   * Flushes now if no other call waits for a reply, otherwise in a microtask. During a read, flushes only after every
   * GATHERED_MAX replies; the end of the read flushes the rest.
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
    this.recount();
  };
}

const PROBE_AGAIN_MS = 50;
const NO_BYTES: Uint8Array = new Uint8Array(0);
/** Replies that may gather during one read before they are flushed. */
const GATHERED_MAX = 64;
/** The socket is paused when more bytes than this arrive while no request is served. */
const KEPT_BYTES_MAX = 65_536;
