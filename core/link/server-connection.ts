// One peer of a link server: reads calls, hands them to the Send, and writes each reply as soon as it is ready. Each
// call has its own signal, which is aborted when the peer cancels the call or disconnects. PipelinedConnection does
// the backpressure and the graceful close. This class differs from other connections:
//
// - Replies carry sequence ids and leave in any order, so there is no queue. WriteBuffer coalesces them.
// - FrameReader splits the input. On a busy link nearly every chunk ends inside a frame, and a ReceiveBuffer would
//   copy the whole next chunk.
// - If a peer of the mesh (one that said hello) has `pipelineMax` calls in flight, or a sum of bytes is full, its
//   further calls are refused, so that it sends them elsewhere. It is not paused, because its pings and cancels must
//   get through. Other peers are paused.
// - After the drain notice, a peer of the mesh closes the connection itself, so that none of its calls is lost in
//   transit. It gets LEAVE_MS for that.
// - There is no idle timeout, because the client pings, and no sweep: links are few, and only an incomplete frame
//   needs a timer.
// - A call above the limits of bytes or nesting gets an error of its own; so does a reply. A peer that breaks the
//   protocol otherwise is disconnected without a reply. A peer of the mesh never does that.
import { systemClock, KatamariError, linkLimitsOf, type ByteAccount, type MessageLimits } from '../mod.ts';
import { createCall, NO_REPLY_CONTEXT, type Call, type CallSink, type Reply } from '../rpc/mod.ts';
import {
  applicationExceptionOf,
  APPLICATION_EXCEPTION,
  writeApplicationException,
  MESSAGE_TYPE,
  NOTHING,
  parseTarget,
  readHead,
  type MessageHead,
  StructScanner,
} from '../thrift/mod.ts';
import { CallSignal } from './call-signal.ts';
import { hasContext, readCallContext, writeReplyContext } from './context.ts';
import { drainNotice, LINK_CALLS, LINK_SERVICE, pingResult, readCancelled } from './control-messages.ts';
import { DenseSet, type DenseSetEntry } from './dense-set.ts';
import { FrameReader, type OversizedFrame } from './frame-reader.ts';
import { helloAnswer, ServerHandshake } from './handshake.ts';
import { LINGER_MS, PipelinedConnection, tooMuchToSend } from './pipelined-connection.ts';
import type { LinkServerOptions } from './server-options.ts';
import { WriteBuffer } from './write-buffer.ts';

import type { Socket } from 'node:net';

export interface LinkConnectionHooks {
  /**
   * Called when the peer has proved that it knows the secret; its calls are read from now on. Not called if no secret
   * is required.
   */
  readonly onProved: () => void;
  readonly onClose: () => void;
}

export class LinkServerConnection extends PipelinedConnection {
  /** Resolves when the socket has closed and the signals of the calls in flight were aborted. */
  readonly closed: Promise<void>;
  readonly #options: LinkServerOptions;
  readonly #hooks: LinkConnectionHooks;
  readonly #scanner: StructScanner;
  readonly #reader: FrameReader;
  readonly #limits: MessageLimits;
  readonly #writeBuffer: WriteBuffer;
  readonly #calls = new DenseSet<LinkCall>();
  /** Set until the peer has authenticated. No call is read before. */
  #handshake: ServerHandshake | undefined;
  /** Whether the peer said hello: such a peer sends pings and cancels and understands refusals. */
  #isPeer = false;
  /** When the incomplete frame began. */
  #begunAtMs = 0;
  /** Cancels the timer of the incomplete frame. */
  #stopWatching: (() => void) | undefined;
  /** Cancels the timer of `leave`, which gives the peer time to close, and then to read its last replies. */
  #stopLeaving: (() => void) | undefined;

  constructor(socket: Socket, account: ByteAccount, options: LinkServerOptions, hooks: LinkConnectionHooks) {
    const { limits, security, flushAt } = options;
    const { pipelineMax, frameBytesMax } = limits;
    const unreadBytesClose = Number.POSITIVE_INFINITY;
    const own = { pipelineMax, unreadBytesMax: frameBytesMax, unreadBytesClose };
    super(socket, own, options.clock ?? systemClock, account);
    this.#options = options;
    this.#hooks = hooks;
    this.#writeBuffer = new WriteBuffer(socket, flushAt);
    const secrets = security?.secrets ?? [];
    if (secrets.length > 0) this.#handshake = new ServerHandshake(secrets, (bytes) => void socket.write(bytes));
    const linkLimits = linkLimitsOf(limits);
    this.#limits = linkLimits;
    this.#scanner = new StructScanner(linkLimits.nestingMax, linkLimits.frameBytesMax);
    this.#reader = new FrameReader(
      linkLimits.frameBytesMax,
      (frame) => this.#onFrame(frame),
      (frame) => this.#onOversized(frame),
    );
    socket.setNoDelay(true);
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** Calls that were read and have not ended. */
  get callsInFlight(): number {
    return this.inFlight;
  }

  /** Accepts no further calls, replies to those in flight, then closes. `closed` resolves at the end. */
  override drain(): void {
    if (this.state !== 'open') return;
    if (this.knowsGoAway) this.#writeBuffer.add(drainNotice());
    this.flush();
    super.drain();
  }

  protected override leave(): void {
    if (this.#stopLeaving !== undefined) return;
    if (this.knowsGoAway) this.#stopLeaving = this.clock.after(LEAVE_MS, () => this.#linger());
    else this.#linger();
  }

  #linger(): void {
    super.leave();
    if (this.state === 'lingering') this.#stopLeaving = this.clock.after(LINGER_MS, () => this.close());
  }

  protected override get inputBytes(): number {
    return this.#reader.heldBytes;
  }

  protected override onFull(): void {
    if (!this.#isPeer) super.onFull();
  }

  protected readonly flush = (): void => this.#writeBuffer.flush();

  protected onClosed(): void {
    this.#watch(false);
    this.#stopLeaving?.();
    this.inFlight = 0;
    const gone = new KatamariError('cancelled', 'The connection of the caller has closed');
    for (const { signal } of this.#calls.takeAll()) signal.abort(gone);
    this.#hooks.onClose();
  }

  protected receive(chunk: Buffer): void {
    this.isReading = true;
    try {
      if (this.#handshake === undefined) this.#readFrames(chunk);
      else this.#shake(this.#handshake, chunk);
    } catch {
      // The rest of the stream cannot be read.
      this.close();
    }
    this.isReading = false;
    this.recount();
    this.moveOn();
  }

  #readFrames(chunk: Buffer): void {
    const reader = this.#reader;
    const wasMidFrame = reader.isMidFrame;
    const framesBefore = reader.frames;
    reader.push(chunk);
    if (!wasMidFrame || reader.frames !== framesBefore) this.#begunAtMs = this.clock.nowMs();
    this.#watch(reader.isMidFrame && this.isServing);
  }

  #shake(handshake: ServerHandshake, chunk: Buffer): void {
    let rest: Buffer | undefined;
    try {
      rest = handshake.push(chunk);
    } catch (error) {
      this.#options.onRefused?.(this.socket.remoteAddress ?? '', (error as Error).message);
      // The handshake has already sent the reason to a peer that speaks Thrift.
      this.#linger();
      return;
    }
    if (rest === undefined) return;
    this.#handshake = undefined;
    this.#acceptPeer();
    this.#hooks.onProved();
    if (rest.length > 0) this.#readFrames(rest);
  }

  #acceptPeer(): void {
    this.#isPeer = true;
    this.knowsGoAway = true;
    this.limits = { ...this.limits, pipelineMax: Number.POSITIVE_INFINITY };
  }

  /**
   * Starts or stops the timer of the incomplete frame. On a busy link some frame is always incomplete, so the timer
   * checks the age of the current one.
   */
  #watch(isMidFrame: boolean): void {
    if (isMidFrame === (this.#stopWatching !== undefined)) return;
    this.#stopWatching?.();
    this.#stopWatching = isMidFrame ? this.clock.after(this.#options.limits.requestMs, this.#onOverdue) : undefined;
  }

  readonly #onOverdue = (): void => {
    const leftMs = this.#begunAtMs + this.#options.limits.requestMs - this.clock.nowMs();
    if (leftMs <= 0) this.close();
    else this.#stopWatching = this.clock.after(leftMs, this.#onOverdue);
  };

  /**
   * Checks that the arguments are one whole struct. Returns the error of a struct that is nested too deep: the frame
   * is well formed, so it concerns this call alone.
   * @throws KatamariError bad_request
   */
  #scan(frame: Buffer, bodyStart: number): KatamariError | undefined {
    this.#scanner.reset();
    try {
      if (this.#scanner.scan(frame, bodyStart, frame.length) === frame.length) return undefined;
    } catch (error) {
      const { code, message, facts } = error as KatamariError;
      if (facts.isTooDeep === true) return new KatamariError(code, message, { ...facts, notRun: true });
      throw error;
    }
    throw new KatamariError('bad_request', 'the arguments are not one whole struct');
  }

  #onOversized({ head, start, bytes }: OversizedFrame): void {
    if (head.type !== MESSAGE_TYPE.call && head.type !== MESSAGE_TYPE.oneway)
      throw new KatamariError('bad_request', 'expected a call or a oneway call');
    const why = `Cannot take ${parseTarget(head.name).method}: it has ${bytes} bytes, limit is ${this.#options.limits.frameBytesMax}; send it in smaller pieces`;
    this.#writeRefusal(head, hasContext(start, head.bodyStart), new KatamariError('too_large', why, { notRun: true }));
  }

  #onFrame(frame: Buffer): void {
    const head = readHead(frame, 0, frame.length);
    if (head === undefined || (head.type !== MESSAGE_TYPE.call && head.type !== MESSAGE_TYPE.oneway)) {
      throw new KatamariError('bad_request', 'expected a call or a oneway call');
    }
    const tooDeep = this.#scan(frame, head.bodyStart);
    if (tooDeep !== undefined) {
      this.#writeRefusal(head, hasContext(frame, head.bodyStart), tooDeep);
      return;
    }
    if (head.name.startsWith(LINK_SERVICE)) {
      this.#onControl(head, frame);
      return;
    }
    const isFromMesh = hasContext(frame, head.bodyStart);
    if (isFromMesh) this.knowsGoAway = true;
    const refusal = this.#refusalOf(head.name, frame.length);
    if (refusal !== undefined) {
      this.#writeRefusal(head, isFromMesh, refusal);
      return;
    }
    const signal = new CallSignal();
    const call = this.#callOf(frame, head, isFromMesh, signal);
    if (call === undefined) {
      this.#writeRefusal(head, isFromMesh, tooLate(head.name));
      return;
    }
    const linkCall = new LinkCall(this, call, head, signal, isFromMesh);
    this.#calls.add(linkCall);
    this.requestBytes += call.args.length;
    this.recount();
    this.begin();
    this.#options.send(call, linkCall);
  }

  /** Handles control messages, which never reach the Send. */
  #onControl(head: MessageHead, frame: Buffer): void {
    const method = parseTarget(head.name).method;
    switch (head.name) {
      case LINK_CALLS.hello:
        // No proof is required here, or the peer has given it.
        this.#acceptPeer();
        this.#writeBuffer.add(helloAnswer(head, NOTHING));
        return;
      case LINK_CALLS.ping:
        this.#write(MESSAGE_TYPE.reply, method, head.seqId, NOTHING, pingResult(this.clock.nowMs()));
        return;
      case LINK_CALLS.cancel:
        this.#cancel(readCancelled(frame, head.bodyStart));
        return;
      default: {
        const answer = writeApplicationException(`A link has no method ${method}`, APPLICATION_EXCEPTION.unknownMethod);
        if (head.type === MESSAGE_TYPE.call) this.#write(MESSAGE_TYPE.exception, method, head.seqId, NOTHING, answer);
      }
    }
  }

  /** Cancels a call: any one of them if the peer reuses sequence ids. A linear search, because cancels are rare. */
  #cancel(seqId: number): void {
    this.#calls.find(({ head }) => head.seqId === seqId)?.signal.abort(CANCELLED);
  }

  #refusalOf(method: string, bytes: number): KatamariError | undefined {
    if (this.state !== 'open') {
      return new KatamariError('draining', `Cannot take ${method}: this process drains, send it to another`, {
        notRun: true,
      });
    }
    if (!this.#isPeer) return undefined;
    if (this.inFlight > 0 && this.account.exceeds(bytes)) {
      const why = `Cannot take ${method}: ${this.account.fullness(bytes)}`;
      return new KatamariError('overloaded', why, { notRun: true, retryAfterMs: RETRY_AFTER_MS });
    }
    const { pipelineMax } = this.#options.limits;
    if (this.inFlight < pipelineMax) return undefined;
    const why = `Cannot take ${method}: ${this.inFlight} calls of ${this.#options.caller} are in flight on its link, limit is ${pipelineMax}`;
    return new KatamariError('overloaded', why, { notRun: true });
  }

  /** Returns undefined if the deadline, which the sender gave on this clock, has passed. */
  #callOf(frame: Buffer, head: MessageHead, isFromMesh: boolean, signal: AbortSignal): Call | undefined {
    const target = parseTarget(head.name);
    const oneway = head.type === MESSAGE_TYPE.oneway;
    const nowMs = this.clock.nowMs();
    if (!isFromMesh) {
      return createCall({
        service: target.service,
        version: target.version,
        method: target.method,
        oneway,
        args: frame.subarray(head.bodyStart),
        deadlineMs: nowMs + this.#options.timeoutMs(),
        caller: this.#options.caller,
        ...(this.#options.identity === undefined ? {} : { identity: this.#options.identity }),
        signal,
      });
    }
    const { context, end } = readCallContext(frame, head.bodyStart);
    const mostMs = this.#options.timeoutMsMax?.() ?? Number.POSITIVE_INFINITY;
    // The time left was true when the call was sent. The deadline on this clock holds however late it arrives.
    const latestMs = context.deadlineUs / 1000;
    if (nowMs >= latestMs) return undefined;
    return {
      service: target.service || context.service,
      method: target.method,
      oneway,
      args: frame.subarray(end),
      deadlineMs: Math.min(nowMs + Math.min(context.timeLeftUs / 1000, mostMs), latestMs),
      version: target.version || context.version,
      roles: context.roles,
      tags: context.tags,
      details: context.details,
      key: context.key,
      traceparent: context.traceparent,
      tracestate: context.tracestate,
      headers: context.headers,
      caller: context.caller || this.#options.caller,
      identity: this.#options.identity ?? context.identity,
      attempt: context.attempt,
      doNotQueue: context.doNotQueue,
      minCoverage: context.minCoverage,
      rule: undefined,
      group: context.group,
      signal,
    };
  }

  /** Writes the reply to a call, which then ends. */
  onReply(call: LinkCall, reply: Reply): void {
    const { head, isFromMesh } = call;
    // The peer does not wait for the reply to a call that it has canceled.
    if (head.type !== MESSAGE_TYPE.oneway && call.isWanted) {
      if (this.account.exceeds(reply.body.length)) {
        this.onError(call, tooMuchToSend(reply.body.length, this.account));
        return;
      }
      const retire = this.#options.wantsToRetire?.(reply) ?? false;
      const { method } = parseTarget(head.name);
      const tooLarge = this.#whyTooLarge(call.call, method, reply.body);
      const body = tooLarge === undefined ? reply.body : applicationExceptionOf(tooLarge);
      const context = isFromMesh ? writeReplyContext(reply.context, tooLarge, retire) : NOTHING;
      const type = reply.isException || tooLarge !== undefined ? MESSAGE_TYPE.exception : MESSAGE_TYPE.reply;
      this.#write(type, method, head.seqId, context, body);
    }
    this.#done(call, reply);
  }

  /** The error for a reply that no client could get, because its message would be larger than the limit. */
  #whyTooLarge({ service }: Call, method: string, body: Uint8Array): KatamariError | undefined {
    const { frameBytesMax } = this.#options.limits;
    const bytes = MESSAGE_HEAD_BYTES + method.length + body.length;
    if (bytes <= frameBytesMax) return undefined;
    // Descriptions and statuses go to no client.
    if (service.startsWith(CONTROL_PREFIX) && bytes <= this.#limits.frameBytesMax) return undefined;
    const name = service === '' ? method : `${service}.${method}`;
    const why = `The answer of ${name} has ${bytes} bytes, limit is ${frameBytesMax}; return less, or raise limits.frame`;
    return new KatamariError('too_large', why);
  }

  /** Writes the error of a failed call, which then ends. */
  onError(call: LinkCall, error: KatamariError): void {
    if (call.isWanted) this.#writeRefusal(call.head, call.isFromMesh, error);
    this.#done(call, undefined);
  }

  #writeRefusal(head: MessageHead, isFromMesh: boolean, error: KatamariError): void {
    if (head.type === MESSAGE_TYPE.oneway) return;
    const context = isFromMesh ? writeReplyContext(NO_REPLY_CONTEXT, error) : NOTHING;
    const method = parseTarget(head.name).method;
    this.#write(MESSAGE_TYPE.exception, method, head.seqId, context, applicationExceptionOf(error));
  }

  #write(type: 2 | 3, method: string, seqId: number, context: Uint8Array, body: Uint8Array): void {
    if (!this.isServing) return;
    this.checkUnread();
    this.#writeBuffer.message(type, method, seqId, context, body);
  }

  #done(call: LinkCall, reply: Reply | undefined): void {
    // The call is unknown if the connection has closed meanwhile.
    const isKnown = this.#calls.remove(call);
    this.#options.onEnded?.(isKnown ? reply : undefined);
    if (!isKnown) return;
    this.requestBytes -= call.call.args.length;
    this.end();
    this.recount();
  }
}

/** A call in flight, with what its reply needs. */
class LinkCall implements CallSink, DenseSetEntry {
  readonly #connection: LinkServerConnection;
  readonly call: Call;
  readonly head: MessageHead;
  readonly signal: CallSignal;
  readonly isFromMesh: boolean;
  index = -1;

  constructor(
    connection: LinkServerConnection,
    call: Call,
    head: MessageHead,
    signal: CallSignal,
    isFromMesh: boolean,
  ) {
    this.#connection = connection;
    this.call = call;
    this.head = head;
    this.signal = signal;
    this.isFromMesh = isFromMesh;
  }

  /** Whether the peer has neither canceled the call nor disconnected. */
  get isWanted(): boolean {
    return !this.signal.aborted;
  }

  reply(reply: Reply): void {
    this.#connection.onReply(this, reply);
  }

  fail(error: KatamariError): void {
    this.#connection.onError(this, error);
  }
}

/** The sender has failed the call by now. The network, or this process, delivered it too late. */
function tooLate(method: string): KatamariError {
  return new KatamariError('timeout', `The deadline had passed before ${method} arrived here`, {
    stage: 'queue',
    notRun: true,
  });
}

/** Services between processes of the mesh. */
const CONTROL_PREFIX = 'katamari.';
/** Version and type, length of the name, sequence id. */
const MESSAGE_HEAD_BYTES = 12;
const CANCELLED = new KatamariError('cancelled', 'The caller has cancelled the call');
/** Advice to a peer whose call did not fit, in ms. */
const RETRY_AFTER_MS = 100;
/** How long a peer may take to close the connection after the drain notice and its last reply, in ms. */
const LEAVE_MS = 1_000;
