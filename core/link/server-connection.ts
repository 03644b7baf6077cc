// One peer of a link server: reads calls, hands them to the Send, writes answers in the order in which they are ready. Each call has its own
import { systemClock, type Clock, KatamariError } from '../mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, type Call, type CallSink, type Reply } from '../rpc/mod.ts';
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
import { drainNotice, LINK_CALLS, LINK_SERVICE, readCancelled } from './control-messages.ts';
import { DenseSet, type DenseSetEntry } from './dense-set.ts';
import { FrameReader } from './frame-reader.ts';
import { helloAnswer, ServerHandshake } from './handshake.ts';
import type { LinkServerOptions } from './server-options.ts';
import { WriteBuffer } from './write-buffer.ts';

// signal, aborted when the peer takes the call back or has gone.
// Limits: frame bytes, nesting, a frame must arrive whole within its time, calls under way. A peer of the mesh (one that said hello) that has too
// many of them under way is refused further ones, to send them elsewhere, and goes on being read: its pings and cancels must come through. Any
// other peer is not read meanwhile.

import type { Socket } from 'node:net';

export interface LinkConnectionHooks {
  /** It knows the secret, and its calls are read from now on. Only where one is asked for. */
  readonly onProved: () => void;
  readonly onClose: () => void;
}

export class LinkServerConnection {
  /** Resolves when the connection has closed and its calls were told. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #options: LinkServerOptions;
  readonly #clock: Clock;
  readonly #scanner: StructScanner;
  readonly #reader: FrameReader;
  readonly #outbox: WriteBuffer;
  /** Calls that were read and have not ended. */
  readonly #taken = new DenseSet<LinkCall>();
  /** Until the peer has proved itself; no call is read before. */
  #handshake: ServerHandshake | undefined;
  readonly #onProved: () => void;
  /** The peer said hello: it knows pings, cancels and refusals. */
  #isPeer = false;
  /** The peer knows what a drain notice is: it said hello or put a context first. */
  #isOfMesh = false;
  #isDraining = false;
  #onIdle: (() => void) | undefined;
  /** When the frame that is incomplete was begun. */
  #begunAtMs = 0;
  /** Takes back the timer that watches an incomplete frame. */
  #stopWatching: (() => void) | undefined;

  constructor(socket: Socket, options: LinkServerOptions, hooks: LinkConnectionHooks) {
    this.#socket = socket;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#outbox = new WriteBuffer(socket, options.gathering);
    this.#onProved = hooks.onProved;
    const secret = options.security?.secret ?? '';
    if (secret !== '') this.#handshake = new ServerHandshake(secret, (bytes) => void socket.write(bytes));
    this.#scanner = new StructScanner(options.limits.nestingMax, options.limits.frameBytesMax);
    this.#reader = new FrameReader(options.limits.frameBytesMax, (frame) => this.#onFrame(frame));
    socket.setNoDelay(true);
    socket.on('data', this.#onData);
    socket.on('drain', () => this.#readOn());
    socket.on('error', () => socket.destroy());
    // A peer that has ended its side wants no answers; its calls that wait leave their queues now. After our own end, what is written leaves first.
    socket.on('end', () => {
      if (!socket.writableEnded) socket.destroy();
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#onClose();
        hooks.onClose();
        resolve();
      });
    });
  }

  /** Calls that were read and have not ended. */
  get underWay(): number {
    return this.#taken.size;
  }

  /**
   * Takes no further call, answers what is under way, closes. A peer of the mesh is told and closes the connection itself, so that none of its
   * calls is on its way here meanwhile; it gets a moment for that.
   */
  async drain(): Promise<void> {
    this.#isDraining = true;
    if (this.#isOfMesh) this.#outbox.add(drainNotice());
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    if (this.#isOfMesh) await this.#left();
    this.#finish();
    await this.closed;
  }

  end(): void {
    this.#socket.destroy();
  }

  /** Resolves when the peer has closed the connection, or had time for it. */
  async #left(): Promise<void> {
    let stopTimer: (() => void) | undefined;
    const late = new Promise<void>((resolve) => (stopTimer = this.#clock.after(LEAVE_MS, resolve)));
    await Promise.race([this.closed, late]);
    stopTimer?.();
  }

  /** Flushes what was answered, then closes; at once when the peer does not read. */
  #finish(): void {
    if (this.#socket.destroyed) return;
    this.#outbox.flush();
    this.#socket.end();
    const stopTimer = this.#clock.after(FLUSH_MS, () => this.#socket.destroy());
    this.#socket.once('close', stopTimer);
  }

  #onClose(): void {
    this.#watch(false);
    const gone = new KatamariError('cancelled', 'The connection of the caller has closed');
    for (const { signal } of this.#taken.takeAll()) signal.abort(gone);
    this.#onIdle?.();
  }

  readonly #onData = (chunk: Buffer): void => {
    try {
      if (this.#handshake === undefined) this.#read(chunk);
      else this.#shake(this.#handshake, chunk);
    } catch {
      // Nothing sensible can be read from here on, and a peer of the mesh never sends this: close, do not answer.
      this.#socket.destroy();
    }
  };

  #read(chunk: Buffer): void {
    const reader = this.#reader;
    const wasMidFrame = reader.isMidFrame;
    const framesBefore = reader.frames;
    reader.push(chunk);
    if (!wasMidFrame || reader.frames !== framesBefore) this.#begunAtMs = this.#clock.nowMs();
    this.#watch(reader.isMidFrame);
  }

  #shake(handshake: ServerHandshake, chunk: Buffer): void {
    let rest: Buffer | undefined;
    try {
      rest = handshake.push(chunk);
    } catch {
      // Why, it was told if it speaks Thrift. Nothing of it is read any more.
      this.#socket.off('data', this.#onData);
      this.#socket.resume();
      this.#finish();
      return;
    }
    if (rest === undefined) return;
    this.#handshake = undefined;
    [this.#isPeer, this.#isOfMesh] = [true, true];
    this.#onProved();
    if (rest.length > 0) this.#read(rest);
  }

  /** A peer that began a frame must end it in time. On a busy link there is always one begun, so the timer looks at its age. */
  #watch(isMidFrame: boolean): void {
    if (isMidFrame === (this.#stopWatching !== undefined)) return;
    this.#stopWatching?.();
    this.#stopWatching = isMidFrame ? this.#clock.after(this.#options.limits.requestMs, this.#onOverdue) : undefined;
  }

  readonly #onOverdue = (): void => {
    const leftMs = this.#begunAtMs + this.#options.limits.requestMs - this.#clock.nowMs();
    if (leftMs <= 0) this.end();
    else this.#stopWatching = this.#clock.after(leftMs, this.#onOverdue);
  };

  #onFrame(frame: Buffer): void {
    const head = readHead(frame, 0, frame.length);
    if (head === undefined || (head.type !== MESSAGE_TYPE.call && head.type !== MESSAGE_TYPE.oneway)) {
      throw new KatamariError('bad_request', 'expected a call or a oneway call');
    }
    this.#scanner.reset();
    if (this.#scanner.scan(frame, head.bodyStart, frame.length) !== frame.length) {
      throw new KatamariError('bad_request', 'the arguments are not one whole struct');
    }
    if (head.name.startsWith(LINK_SERVICE)) {
      this.#onControl(head, frame);
      return;
    }
    const isFromMesh = hasContext(frame, head.bodyStart);
    if (isFromMesh) this.#isOfMesh = true;
    const refusal = this.#whyNotTake(head.name);
    if (refusal !== undefined) {
      this.#writeRefusal(head, isFromMesh, refusal);
      return;
    }
    const signal = new CallSignal();
    const call = this.#callOf(frame, head, isFromMesh, signal);
    const taken = new LinkCall(this, call, head, signal, isFromMesh);
    this.#taken.add(taken);
    if (this.underWay >= this.#options.limits.pipelineMax && !this.#isPeer) this.#socket.pause();
    this.#options.send(call, taken);
  }

  /** What the link itself answers. */
  #onControl(head: MessageHead, frame: Buffer): void {
    const method = parseTarget(head.name).method;
    switch (head.name) {
      case LINK_CALLS.hello:
        // Nobody has to prove anything here, or it has been done.
        [this.#isPeer, this.#isOfMesh] = [true, true];
        this.#outbox.add(helloAnswer(head, NOTHING));
        return;
      case LINK_CALLS.ping:
        this.#write(MESSAGE_TYPE.reply, method, head.seqId, NOTHING, EMPTY_STRUCT);
        return;
      case LINK_CALLS.cancel:
        this.#takeBack(readCancelled(frame, head.bodyStart));
        return;
      default: {
        const answer = writeApplicationException(`A link has no method ${method}`, APPLICATION_EXCEPTION.unknownMethod);
        if (head.type === MESSAGE_TYPE.call) this.#write(MESSAGE_TYPE.exception, method, head.seqId, NOTHING, answer);
      }
    }
  }

  /** Of a peer that uses a number twice, one of the two. Looked for one by one: few calls are ever taken back. */
  #takeBack(seqId: number): void {
    this.#taken.find(({ head }) => head.seqId === seqId)?.signal.abort(TAKEN_BACK);
  }

  #whyNotTake(method: string): KatamariError | undefined {
    if (this.#isDraining) {
      return new KatamariError('draining', `Cannot take ${method}: this process drains, send it to another`, {
        notRun: true,
      });
    }
    const { pipelineMax } = this.#options.limits;
    if (!this.#isPeer || this.underWay < pipelineMax) return undefined;
    const why = `Cannot take ${method}: ${this.underWay} calls of ${this.#options.caller} are under way on its link, limit is ${pipelineMax}`;
    return new KatamariError('overloaded', why, { notRun: true });
  }

  #callOf(frame: Buffer, head: MessageHead, isFromMesh: boolean, signal: AbortSignal): Call {
    const target = parseTarget(head.name);
    const oneway = head.type === MESSAGE_TYPE.oneway;
    const nowMs = this.#clock.nowMs();
    if (!isFromMesh) {
      return createCall({
        service: target.service,
        version: target.version,
        method: target.method,
        oneway,
        args: frame.subarray(head.bodyStart),
        deadlineMs: nowMs + this.#options.timeoutMs(),
        caller: this.#options.caller,
        signal,
      });
    }
    const { context, end } = readCallContext(frame, head.bodyStart);
    const mostMs = this.#options.timeoutMsMax?.() ?? Number.POSITIVE_INFINITY;
    return {
      service: target.service || context.service,
      method: target.method,
      oneway,
      args: frame.subarray(end),
      deadlineMs: nowMs + Math.min(context.timeLeftUs / 1000, mostMs),
      version: target.version || context.version,
      roles: context.roles,
      tags: context.tags,
      details: context.details,
      key: context.key,
      traceparent: context.traceparent,
      tracestate: context.tracestate,
      headers: context.headers,
      caller: context.caller || this.#options.caller,
      attempt: context.attempt,
      doNotQueue: context.doNotQueue,
      signal,
    };
  }

  /** A call that was taken ended well. */
  answer(taken: LinkCall, reply: Reply): void {
    const { head, isFromMesh } = taken;
    // Of a call that was taken back nobody waits for the answer.
    if (head.type !== MESSAGE_TYPE.oneway && taken.isWanted) {
      const retire = this.#options.wantsToRetire?.(reply) ?? false;
      const context = isFromMesh ? writeReplyContext(reply.context, undefined, retire) : NOTHING;
      const type = reply.isException ? MESSAGE_TYPE.exception : MESSAGE_TYPE.reply;
      this.#write(type, parseTarget(head.name).method, head.seqId, context, reply.body);
    }
    this.#done(taken, reply);
  }

  /** A call that was taken failed. */
  refuse(taken: LinkCall, error: KatamariError): void {
    if (taken.isWanted) this.#writeRefusal(taken.head, taken.isFromMesh, error);
    this.#done(taken, undefined);
  }

  #writeRefusal(head: MessageHead, isFromMesh: boolean, error: KatamariError): void {
    if (head.type === MESSAGE_TYPE.oneway) return;
    const context = isFromMesh ? writeReplyContext(NO_REPLY_CONTEXT, error) : NOTHING;
    const method = parseTarget(head.name).method;
    this.#write(MESSAGE_TYPE.exception, method, head.seqId, context, applicationExceptionOf(error));
  }

  #write(type: 2 | 3, method: string, seqId: number, context: Uint8Array, body: Uint8Array): void {
    if (this.#socket.destroyed) return;
    // A peer that calls and does not read its answers is not read either, until it does.
    if (this.#socket.writableLength > this.#options.limits.frameBytesMax) this.#socket.pause();
    this.#outbox.message(type, method, seqId, context, body);
  }

  #readOn(): void {
    if (!this.#socket.isPaused()) return;
    if (this.underWay >= this.#options.limits.pipelineMax && !this.#isPeer) return;
    if (this.#socket.writableLength <= this.#options.limits.frameBytesMax) this.#socket.resume();
  }

  #done(taken: LinkCall, reply: Reply | undefined): void {
    // The connection may have ended meanwhile; the call has ended all the same.
    const isThere = this.#taken.remove(taken);
    if (isThere) this.#readOn();
    this.#options.onEnded?.(isThere ? reply : undefined);
    if (isThere && this.underWay === 0) this.#onIdle?.();
  }
}

/** A call that was read, and all that its answer needs. */
class LinkCall implements CallSink, DenseSetEntry {
  readonly #connection: LinkServerConnection;
  readonly call: Call;
  readonly head: MessageHead;
  readonly signal: CallSignal;
  readonly isFromMesh: boolean;
  rosterPlace = -1;

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

  /** Neither taken back nor left behind. */
  get isWanted(): boolean {
    return !this.signal.aborted;
  }

  reply(reply: Reply): void {
    this.#connection.answer(this, reply);
  }

  fail(error: KatamariError): void {
    this.#connection.refuse(this, error);
  }
}

const TAKEN_BACK = new KatamariError('cancelled', 'The caller has taken the call back');
/** Longest wait for a peer to read the last answers of a server that drains, in ms. */
const FLUSH_MS = 1_000;
/** Time that a peer has to close the connection after a drain notice and its last answer, in ms. */
const LEAVE_MS = 1_000;
