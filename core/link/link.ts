// The client side of a link, a multiplexed connection: manager to chassis, faceplate to manager, chassis to mesh.
// Framed strict binary. The sequence id numbers the calls in flight, and the call context is the first field of the
// arguments. A Link keeps no deadlines; the sender of a call does. When the connection closes, every call in flight
// fails at once with resource_failed.
//
// A reply above the limits fails its own call with too_large, and a call above them is not sent. A frame whose content
// makes no sense fails its own call too; the peer then gets no more calls, and the link closes when those in flight
// have ended. Only a stream that cannot be cut into frames any more ends all calls.
import { systemClock, type Clock, KatamariError, linkLimitsOf, type MessageLimits } from '../mod.ts';
import { type Call, type Dispatch, type Reply, EMPTY_STRUCT, NO_REPLY_CONTEXT } from '../rpc/mod.ts';
import {
  readApplicationException,
  MESSAGE_TYPE,
  NAME_BYTES_MAX,
  NOTHING,
  readHead,
  type MessageHead,
  StructScanner,
} from '../thrift/mod.ts';
import { ClockOffset } from './clock-offset.ts';
import { errorOfContext, hasContext, readReplyContext, writeCallContext, type WireReplyContext } from './context.ts';
import { cancelMessage, LINK_CALLS, readPeerTime } from './control-messages.ts';
import { FrameReader, type OversizedFrame } from './frame-reader.ts';
import { PendingTable } from './pending-table.ts';
import { WriteBuffer } from './write-buffer.ts';

import type { Socket } from 'node:net';

/** Receives the end of one call. Exactly one of its methods is called, once. */
export interface ReplySink {
  reply(reply: Reply, wire: WireReplyContext | undefined): void;
  fail(error: KatamariError): void;
}

export interface LinkOptions {
  /** Name of the peer, for error messages. */
  readonly peer: string;
  /** Limits of messages at the edge of the mesh. Frames of the link may be larger by the context. */
  readonly limits: MessageLimits;
  /** Called once with the reason when the connection has closed. */
  readonly onClose?: (error: KatamariError) => void;
  /** Called once when the peer announces a drain: it takes no further calls but still replies to those in flight. */
  readonly onDrain?: () => void;
}

export class Link {
  readonly #socket: Socket;
  readonly #options: LinkOptions;
  readonly #writeBuffer: WriteBuffer;
  readonly #inFlight = new PendingTable<ReplySink>();
  readonly #scanner: StructScanner;
  readonly #reader: FrameReader;
  readonly #limits: MessageLimits;
  #closed: KatamariError | undefined;
  /** Why the peer is not trusted any more; '' while it is. */
  #faultyBy = '';
  #isDraining = false;
  #ping: Ping | undefined;
  #lastPing = 0;
  /** Measured by pings; without pings, calls carry no deadline on the clock of the peer. */
  readonly #clockOffset = new ClockOffset();

  /** @param socket must be connected */
  constructor(socket: Socket, options: LinkOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#writeBuffer = new WriteBuffer(socket, 'immediate');
    const limits = linkLimitsOf(options.limits);
    this.#limits = limits;
    this.#scanner = new StructScanner(limits.nestingMax, limits.frameBytesMax);
    const reader = new FrameReader(
      limits.frameBytesMax,
      (frame) => this.#onFrame(frame),
      (frame) => this.#onOversized(frame),
    );
    this.#reader = reader;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.#end(`broke the protocol: ${(error as Error).message}`);
      }
    });
    socket.on('error', (error) => this.#end(error.message));
    // A peer that has ended its side sends no more replies, even if it leaves the other side open.
    socket.on('end', () => this.#end('closed the connection'));
    socket.on('close', () => this.#end('closed the connection'));
    // A socket from connectLink is paused. A socket that has already closed emits no further event.
    socket.resume();
    if (socket.destroyed) queueMicrotask(() => this.#end('closed the connection'));
  }

  /** Calls in flight. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Whether the link takes calls: the connection is open and the peer is not draining. */
  get isOpen(): boolean {
    return this.#closed === undefined && !this.#isDraining && this.#faultyBy === '';
  }

  /** Number of frames received from the peer. While it grows, the peer is alive. */
  get heard(): number {
    return this.#reader.frames;
  }

  /** The error with which calls in flight failed when the connection closed; undefined while it is open. */
  get closedBy(): KatamariError | undefined {
    return this.#closed;
  }

  /** Whether the peer has announced a drain. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /**
   * Sends a call; its end goes to `sink`. Oneway calls are sent as ordinary calls, so that their end is known.
   * @returns the id that `cancel` takes
   * @throws KatamariError with facts.notRun when nothing was written: resource_failed or draining when the link takes
   * no calls, too_large when this call is beyond the limit.
   * @param name method name to write, if not the call's own (multiplexed names)
   * @param nowMs the time, on the clock of call.deadlineMs
   */
  send(call: Call, sink: ReplySink, nowMs: number, name: string = call.method): number {
    if (!this.isOpen) throw this.#notSent();
    const deadlineMs = this.#clockOffset.toPeer(call.deadlineMs, nowMs);
    const context = writeCallContext(call, (call.deadlineMs - nowMs) * 1000, deadlineMs);
    const bytes = context.length + call.args.length + HEAD_BYTES_MAX;
    if (bytes > this.#limits.frameBytesMax) throw this.#tooLargeToSend(call, bytes);
    // Ids of calls begin at 1. The peer's drain notice has id 0, and pings count down from -1.
    const seqId = this.#inFlight.add(sink);
    this.#writeBuffer.message(MESSAGE_TYPE.call, name, seqId, context, call.args);
    return seqId;
  }

  /**
   * Cancels a call. Its sink is not called any more, so the caller of `cancel` settles the call. The peer removes the
   * call from its queue; a call that is already running may run to its end.
   * @param id what `send` returned
   * @returns false when the call had ended before
   */
  cancel(id: number): boolean {
    if (this.#inFlight.take(id) === undefined) return false;
    this.#writeBuffer.add(cancelMessage(id));
    this.#leaveWhenDrained();
    return true;
  }

  /**
   * Pings the peer, which must be a link server. It replies however many calls it has in flight. Only one ping is in
   * flight: a second caller shares the reply to the first.
   * @returns the round-trip time in ms
   * @throws KatamariError timeout when there was no reply within `timeoutMs`, resource_failed when the link is closed
   */
  ping(timeoutMs: number, clock: Clock = systemClock): Promise<number> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    this.#ping ??= this.#startPing(timeoutMs, clock);
    return this.#ping.answered;
  }

  /** Returns this link as a Dispatch, for simple callers. */
  dispatch(clock: { nowMs(): number }, nameOf?: (call: Call) => string): Dispatch {
    return (call) =>
      new Promise<Reply>((reply, fail) => {
        this.send(call, { reply: (answer) => reply(answer), fail }, clock.nowMs(), nameOf?.(call));
      });
  }

  /** Closes the connection now; calls in flight fail. */
  close(why = 'closed by this side'): void {
    this.#end(why);
  }

  #notSent(): KatamariError {
    const { peer } = this.#options;
    const faulty =
      this.#faultyBy === '' ? undefined : new KatamariError('resource_failed', `${peer} ${this.#faultyBy}`);
    const why = this.#closed ?? faulty ?? drains(peer);
    return new KatamariError(why.code, why.message, { notRun: true });
  }

  #tooLargeToSend({ method }: Call, bytes: number): KatamariError {
    const { frameBytesMax } = this.#options.limits;
    const why = `Cannot send ${method} to ${this.#options.peer}: it has ${bytes} bytes with its context, limit is ${frameBytesMax}; send it in smaller pieces`;
    return new KatamariError('too_large', why, { notRun: true });
  }

  #startPing(timeoutMs: number, clock: Clock): Ping {
    this.#lastPing = this.#lastPing === -0x7fffffff ? -1 : this.#lastPing - 1;
    const ping = new Ping(this.#lastPing, clock);
    const overdue = (): void => {
      if (this.#ping !== ping) return;
      this.#ping = undefined;
      const why = `${this.#options.peer} did not answer a ping within ${timeoutMs} ms: it is frozen, or the network to it is down`;
      ping.fail(new KatamariError('timeout', why));
    };
    // If this process was blocked, the reply may still be unread. One turn of the event loop reads it.
    ping.stopTimer = clock.after(timeoutMs, () => setImmediate(overdue));
    this.#writeBuffer.message(MESSAGE_TYPE.call, LINK_CALLS.ping, ping.seqId, NOTHING, EMPTY_STRUCT);
    return ping;
  }

  #onFrame(frame: Buffer): void {
    const head = readHead(frame, 0, frame.length);
    if (head === undefined)
      throw new KatamariError('bad_request', `a reply of ${frame.length} bytes ends inside its head`);
    if (head.seqId <= 0) {
      this.#onControl(head, frame);
      return;
    }
    const sink = this.#inFlight.take(head.seqId);
    // No call waits for this reply: the peer replied twice, or to a canceled call. Ignore it.
    if (sink === undefined) return;
    try {
      this.#settle(sink, frame, head.type, head.bodyStart);
    } catch (error) {
      this.#onUnreadable(sink, head.name, error as KatamariError);
    }
    this.#leaveWhenDrained();
  }

  /** A frame whose content cannot be read. The next frame begins where it should, so other calls go on. */
  #onUnreadable(sink: ReplySink, method: string, { message, facts }: KatamariError): void {
    const { peer } = this.#options;
    if (facts.isTooDeep === true) {
      sink.fail(new KatamariError('too_large', `${peer} answered ${method} beyond the limits: ${message}`));
      return;
    }
    this.#faultyBy = `broke the protocol: ${message}`;
    sink.fail(new KatamariError('resource_failed', `${peer} ${this.#faultyBy}`));
  }

  #onOversized({ head, bytes }: OversizedFrame): void {
    if (head.seqId <= 0) throw new KatamariError('bad_request', `a control message of ${bytes} bytes`);
    const { peer, limits } = this.#options;
    const why = `${peer} answered ${head.name} with ${bytes} bytes, limit is ${limits.frameBytesMax}; ask for less, or raise limits.frame`;
    this.#inFlight.take(head.seqId)?.fail(new KatamariError('too_large', why));
    this.#leaveWhenDrained();
  }

  /** Handles replies to pings, and the drain notice of the peer. */
  #onControl({ seqId, name, type, bodyStart }: MessageHead, frame: Buffer): void {
    if (seqId === this.#ping?.seqId && type === MESSAGE_TYPE.reply) {
      const ping = this.#ping;
      this.#ping = undefined;
      const peerMs = readPeerTime(frame, bodyStart);
      if (peerMs !== undefined) this.#clockOffset.measured(peerMs, ping.nowMs);
      ping.succeed();
    }
    if (seqId !== 0 || name !== LINK_CALLS.drain || this.#isDraining) return;
    this.#isDraining = true;
    this.#options.onDrain?.();
    this.#leaveWhenDrained();
  }

  #leaveWhenDrained(): void {
    if (this.#inFlight.size > 0) return;
    if (this.#faultyBy !== '') this.#end(this.#faultyBy);
    else if (this.#isDraining) this.#end(drains(this.#options.peer));
  }

  #settle(sink: ReplySink, frame: Buffer, type: number, bodyStart: number): void {
    if (type !== MESSAGE_TYPE.reply && type !== MESSAGE_TYPE.exception) {
      throw new KatamariError('bad_request', `message type ${type} where a reply (2) or an exception (3) was expected`);
    }
    // Reply bodies go to clients unchanged, and to some clients without a frame. So a body must be exactly one
    // struct.
    this.#scanner.reset();
    if (this.#scanner.scan(frame, bodyStart, frame.length) !== frame.length) {
      throw new KatamariError('bad_request', `a reply of ${frame.length} bytes whose body is not one whole struct`);
    }
    const isException = type === MESSAGE_TYPE.exception;
    if (!hasContext(frame, bodyStart)) {
      sink.reply({ isException, body: frame.subarray(bodyStart), context: NO_REPLY_CONTEXT }, undefined);
      return;
    }
    const { context, end } = readReplyContext(frame, bodyStart);
    const body = frame.subarray(end);
    if (context.error === undefined) sink.reply({ isException, body, context }, context);
    else sink.fail(errorOfContext(context.error, readApplicationException(body).message));
  }

  #end(why: string | KatamariError): void {
    if (this.#closed !== undefined) return;
    this.#closed = typeof why === 'string' ? new KatamariError('resource_failed', `${this.#options.peer} ${why}`) : why;
    this.#socket.destroy();
    this.#ping?.fail(this.#closed);
    this.#ping = undefined;
    const left = this.#inFlight.takeAll();
    // Report the close before the calls fail: their callers may retry at once, and must not choose this link.
    this.#options.onClose?.(this.#closed);
    for (const sink of left) sink.fail(this.#closed);
  }
}

/** A ping in flight. */
class Ping {
  readonly seqId: number;
  readonly answered: Promise<number>;
  /** Cancels the timer of its timeout. */
  stopTimer: () => void = () => {};
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  #resolve!: (tookMs: number) => void;
  #reject!: (error: KatamariError) => void;

  constructor(seqId: number, clock: Clock) {
    this.seqId = seqId;
    this.#clock = clock;
    this.#startedAtMs = clock.nowMs();
    this.answered = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Time on the clock of the caller. */
  get nowMs(): number {
    return this.#clock.nowMs();
  }

  succeed(): void {
    this.stopTimer();
    this.#resolve(this.#clock.nowMs() - this.#startedAtMs);
  }

  fail(error: KatamariError): void {
    this.stopTimer();
    this.#reject(error);
  }
}

/** Bytes of the head of a message with the longest name. */
const HEAD_BYTES_MAX = 12 + NAME_BYTES_MAX;

function drains(peer: string): KatamariError {
  return new KatamariError('draining', `${peer} is draining and takes no further calls: send the call elsewhere`);
}
