// One client: reads its calls, hands them to the mesh, and writes the answers in the order of the calls; those of calls that ask for any order
import { CallSignal, withoutContext, ReceiveBuffer, DenseSet } from '../../core/link/mod.ts';
import { type Clock, asKatamariError, KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import { createCall, type Reply, type MeshAccess } from '../../core/rpc/mod.ts';
import { type Encoding, type MessageFacts, FramedBinary } from '../../core/thrift/encodings/mod.ts';
import { applicationExceptionOf, MESSAGE_TYPE, NOTHING } from '../../core/thrift/mod.ts';
import { ThriftCallOptions } from './call-options.ts';
import { detectProtocol } from './detect-protocol.ts';
import { headersOfError } from './error-headers.ts';
import type { MethodTarget, MethodTargets } from './method-targets.ts';
import { drainBegins, draining, framedRefusal, halfSent, unknownProtocol, wantsTls } from './refusals.ts';
import { ReplyQueue, type ThriftCall, type ThriftCallOwner } from './reply-queue.ts';

// (`katamari-any-order`) as they become ready. Two speeds: the answer to the only
// call in line goes straight to the socket, those of several leave together at the end of the turn. Nothing here makes a timer: the
// faceplate sweeps over all of its connections instead. Limits: calls under way and answers not read (then the socket is not read
// either), time for a message that was begun, idle time. Who breaks the protocol gets the answers to what came before, the reason, and the end.

import type { Socket } from 'node:net';

/** What all connections of a faceplate share. */
export interface ConnectionHost {
  readonly mesh: MeshAccess;
  readonly limits: FaceplateLimits;
  readonly clock: Clock;
  readonly targets: MethodTargets;
  /** Oneway calls outlive their connection; the faceplate's drain waits for them. */
  onewayStarted(): void;
  onewayEnded(): void;
  onClose(connection: ThriftConnection): void;
  /** Takes over a connection that begins with a TLS handshake; undefined where none is spoken. */
  readonly startTls: ((socket: Socket, begun: Buffer) => void) | undefined;
  /** Whoever does not speak TLS is refused. */
  readonly isTlsRequired: boolean;
}

/**
 * - open: reads and answers.   - ending: broke the protocol; reads no more and leaves after the last answer.
 * - leaving: the last answer and the end were sent; what still comes is thrown away until the client ends too, because a kernel that
 *   closes on unread bytes discards what the client has not read.   - gone: the socket is closed.
 */
type ThriftConnectionState = 'open' | 'ending' | 'leaving' | 'gone';

export class ThriftConnection implements ThriftCallOwner {
  readonly #socket: Socket;
  readonly #host: ConnectionHost;
  readonly #isSecure: boolean;
  readonly #line: ReplyQueue = new ReplyQueue(this);
  /** Calls whose answers keep no order; made for the first one. A client that makes such calls is told before the end, see #sendGoAway. */
  #anyOrder: DenseSet<ThriftCall> | undefined;
  readonly #inbox = new ReceiveBuffer();
  #encoding: Encoding | undefined;
  #state: ThriftConnectionState = 'open';
  #isPaused = false;
  #isReading = false;
  #isDraining = false;
  /** The next bytes begin the drain; until then nothing is closed that may have a call on its way here. */
  #isLastCall = false;
  /** Received and not used when the drain began: messages that start in these bytes are served, later ones refused. */
  #begunBytes = 0;
  #underWay = 0;
  /** Bytes of answers that are ready and wait for those before them. */
  #waitingBytes = 0;
  #outgoing: Uint8Array[] = [];
  /** What the headers of the message before asked for. */
  #asked: ThriftCallOptions | undefined;
  /** What answers of a version say in headers; the same object each time, so that its bytes are made once. */
  #versionHeaders: Readonly<Record<string, string>> | undefined;
  /** Aborted when the client has gone; made for the first call. */
  #gone: CallSignal | undefined;
  #caller = '';
  #activeAtMs: number;
  /** When the message that is incomplete was begun; means something while the inbox holds bytes. */
  #begunAtMs = 0;
  #unsentSeen = 0;

  // A connection that goes on as TLS takes these back, and no others: the socket has some of its own.
  readonly #listeners: Readonly<Record<string, (chunk: Buffer) => void>> = {
    data: (chunk) => this.#onData(chunk),
    drain: () => this.#readOn(),
    // Whoever ends its side waits for nothing. When this side has ended, the socket closes by itself once all is written.
    end: () => {
      if (this.#state !== 'leaving') this.close();
    },
    error: () => this.close(),
    close: () => this.close(),
  };

  /** @param isSecure its TLS handshake is done */
  constructor(socket: Socket, host: ConnectionHost, isSecure = false) {
    this.#socket = socket;
    this.#host = host;
    this.#isSecure = isSecure;
    this.#activeAtMs = host.clock.nowMs();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  /** For a connection that is not wanted at all: says why, and ends. */
  refuse(error: KatamariError): void {
    this.#outgoing.push(framedRefusal(error));
    this.#leave();
  }

  /** Busy, it drains. Idle, it serves what comes next, and drains then: who calls all the time sees the end behind an answer. */
  beginGracefulClose(): void {
    if (this.#isIdle && this.#inbox.isEmpty) {
      this.#isLastCall = true;
      this.#sendGoAway(false);
    } else this.drain();
  }

  /** Serves what has begun, refuses what begins now, and ends after the last answer. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#begunBytes = this.#inbox.bytes;
    const isIdle = this.#isIdle;
    if (!isIdle) this.#sendGoAway(false);
    this.#leaveIfDone();
    // Nothing can be lost on it, so nobody need wait for the client to end too; but for one that has been told, and will.
    if (isIdle && this.#state === 'leaving' && this.#anyOrder === undefined) this.close();
  }

  /** Ends now. Calls that still wait are cancelled, oneway calls go on. */
  close(): void {
    if (this.#state === 'gone') return;
    this.#state = 'gone';
    this.#socket.destroy();
    const nowMs = this.#host.clock.nowMs();
    for (let place = this.#line.first; place !== undefined; place = place.next) cancel(place, nowMs);
    for (const place of this.#anyOrder?.all() ?? []) cancel(place, nowMs);
    this.#gone?.abort(GONE);
    this.#host.onClose(this);
  }

  /** Looks at the clock, in place of timers of its own. */
  sweep(nowMs: number): void {
    const { idleMs, requestMs } = this.#host.limits;
    const unsent = this.#socket.writableLength;
    if (unsent !== this.#unsentSeen) {
      this.#unsentSeen = unsent;
      this.#activeAtMs = nowMs;
    }
    const quietMs = nowMs - this.#activeAtMs;
    if (this.#state === 'leaving') {
      if (quietMs >= LEAVE_MS) this.close();
    } else if (quietMs >= idleMs && (this.#underWay === 0 || unsent > 0)) {
      if (this.#isIdle && this.#anyOrder !== undefined) this.drain();
      else this.close();
    } else if (!this.#isPaused && !this.#inbox.isEmpty && nowMs - this.#begunAtMs >= requestMs) {
      this.#break(halfSent(this.#inbox.bytes, requestMs), nowMs);
    }
  }

  onReply(place: ThriftCall, reply: Reply): void {
    if (place.isCancelled) return;
    const { stats } = place;
    this.#activeAtMs = this.#host.clock.nowMs();
    stats.settle('ok', this.#activeAtMs - place.acceptedAtMs, reply.context.queueUs);
    if (reply.isException || isDeclaredException(reply.body)) stats.exceptions++;
    place.version = reply.context.version;
    this.#settle(place, reply.isException ? MESSAGE_TYPE.exception : MESSAGE_TYPE.reply, reply.body);
  }

  onError(place: ThriftCall, error: KatamariError): void {
    if (place.isCancelled) return;
    this.#activeAtMs = this.#host.clock.nowMs();
    const tookMs = this.#activeAtMs - place.acceptedAtMs;
    place.stats.settle(error.code, tookMs, error.facts.stage === 'queue' ? tookMs * 1000 : 0);
    place.error = error;
    this.#settle(place, MESSAGE_TYPE.exception, place.isOneway ? NOTHING : applicationExceptionOf(error));
  }

  get #isIdle(): boolean {
    return this.#underWay === 0 && this.#outgoing.length === 0 && this.#socket.writableLength === 0;
  }

  #onData(chunk: Buffer): void {
    // What comes after the end is thrown away.
    if (this.#state !== 'open') return;
    const nowMs = this.#host.clock.nowMs();
    this.#activeAtMs = nowMs;
    if (this.#inbox.isEmpty) this.#begunAtMs = nowMs;
    const bytes = this.#inbox.join(chunk, this.#encoding?.declaredBytes);
    if (this.#isLastCall && !this.#isDraining) {
      this.#isDraining = true;
      this.#begunBytes = bytes.length;
    }
    // A runtime may deliver what it had read before it was told to pause.
    if (this.#isPaused) this.#inbox.keep(bytes, 0);
    else this.#read(bytes, nowMs);
  }

  /** Serves the messages that are whole and keeps the rest; stops early when enough are under way. */
  #read(bytes: Buffer, nowMs: number): void {
    let at = 0;
    this.#isReading = true;
    try {
      const encoding = this.#encoding ?? this.#recognise(bytes, nowMs);
      if (encoding !== undefined) at = this.#serveWhole(encoding, bytes, nowMs);
    } catch (error) {
      this.#break(asKatamariError(error), nowMs);
    }
    this.#isReading = false;
    this.#flush();
    this.#inbox.keep(bytes, this.#state === 'open' ? at : bytes.length);
    this.#begunBytes = Math.max(0, this.#begunBytes - at);
    this.#leaveIfDone();
    // Calls that ended while this read, see #readOn.
    if (this.#isPaused && this.#hasRoom()) queueMicrotask(this.#readOn);
  }

  /** Returns the offset behind the last message that was served. */
  #serveWhole(encoding: Encoding, bytes: Buffer, nowMs: number): number {
    let at = 0;
    while (at < bytes.length && this.#state === 'open' && !this.#isPaused) {
      const next = encoding.next(bytes, at, bytes.length);
      if (next === -1) {
        this.#sendContinue(encoding);
        break;
      }
      const isLate = this.#isDraining && at >= this.#begunBytes;
      at = next;
      this.#begunAtMs = nowMs;
      const { isLast } = encoding;
      this.#serve(encoding.head as MessageFacts, encoding, nowMs, isLate);
      if (isLast === true && this.#state === 'open') this.#state = 'ending';
    }
    return at;
  }

  #recognise(bytes: Buffer, nowMs: number): Encoding | undefined {
    const { limits, targets, clock } = this.#host;
    const found = detectProtocol(bytes, limits, (head) => targets.of(head.name, clock.nowMs()).schema?.args);
    switch (found.kind) {
      case 'encoding':
        if (this.#host.isTlsRequired && !this.#isSecure) {
          this.#break(wantsTls(), nowMs);
          return undefined;
        }
        this.#encoding = found.encoding;
        return found.encoding;
      case 'more':
        return undefined;
      case 'tls':
        this.#startTls(bytes, nowMs);
        return undefined;
      case 'unknown':
        this.#break(unknownProtocol(found.seen), nowMs);
        return undefined;
    }
  }

  /** Gives the socket away: what is inside begins as a connection of its own. */
  #startTls(begun: Buffer, nowMs: number): void {
    const { startTls } = this.#host;
    if (startTls === undefined || this.#isSecure) {
      this.#break(unknownProtocol('a TLS handshake'), nowMs);
      return;
    }
    this.#state = 'gone';
    for (const [event, listener] of Object.entries(this.#listeners)) this.#socket.off(event, listener);
    this.#host.onClose(this);
    startTls(this.#socket, begun);
  }

  /** A client may wait for a word before it sends what it has announced. */
  #sendContinue(encoding: Encoding): void {
    const interim = this.#line.first === undefined ? encoding.takeInterim?.() : undefined;
    if (interim === undefined) return;
    this.#outgoing.push(interim);
    this.#flush();
  }

  #serve(head: MessageFacts, encoding: Encoding, nowMs: number, isLate: boolean): void {
    const { body, headers, answersOneway, keepsNoOrder } = encoding;
    if (head.type !== MESSAGE_TYPE.call && head.type !== MESSAGE_TYPE.oneway) {
      throw new KatamariError('bad_request', `Message type is ${head.type}, expected 1 (call) or 4 (oneway)`);
    }
    const { mesh, targets } = this.#host;
    const asked = ThriftCallOptions.read(headers, head.name, this.#asked);
    this.#asked = asked;
    const target = targets.of(asked?.name ?? head.name, nowMs);
    const isOneway = head.type === MESSAGE_TYPE.oneway || target.isOneway;
    const isAnyOrder = keepsNoOrder === true && asked?.isAnyOrder === true;
    const place = this.#accept(target, head.seqId, isOneway && answersOneway !== true, isAnyOrder, nowMs);
    place.isSilent = isOneway;
    const refusal = isLate ? draining() : asked?.refusal;
    if (refusal !== undefined) {
      this.onError(place, refusal);
      return;
    }
    const call = createCall({
      service: target.service,
      version: target.version,
      method: target.method,
      // Only the mesh may say what a context says (deadline, version, who calls); one from outside reaches neither it nor a plain server.
      args: withoutContext(body),
      oneway: isOneway,
      deadlineMs: nowMs + mesh.timeoutMs(),
      caller: this.#callerName(),
      // A client may well close as soon as it has sent a oneway call; that call goes on.
      signal: isOneway ? undefined : (this.#gone ??= new CallSignal()),
    });
    mesh.send(asked?.of(call, nowMs) ?? call, place);
  }

  /** Enters a call in the book and gives it a place in the line. */
  #accept(target: MethodTarget, seqId: number, isOneway: boolean, isAnyOrder: boolean, nowMs: number): ThriftCall {
    const place = this.#line.take(target);
    place.seqId = seqId;
    place.acceptedAtMs = nowMs;
    place.isOneway = isOneway;
    place.stats.accept();
    place.isAnyOrder = isAnyOrder;
    if (isAnyOrder) this.#anyOrder ??= new DenseSet();
    if (isOneway) this.#host.onewayStarted();
    else if (isAnyOrder) this.#anyOrder?.add(place);
    else this.#line.join(place);
    if (++this.#underWay >= this.#host.limits.pipelineMax) this.#pause();
    return place;
  }

  /** A call has ended and is in the book; its answer leaves now or when its turn comes. */
  #settle(place: ThriftCall, type: 2 | 3, body: Uint8Array): void {
    if (place.isOneway) {
      this.#underWay--;
      this.#line.free(place);
      this.#host.onewayEnded();
    } else if (place.isAnyOrder) {
      place.body = body;
      this.#overtake(place, type);
    } else {
      place.type = type;
      place.body = body;
      this.#waitingBytes += body.length;
      if (this.#line.first === place) this.#answer();
      else this.#checkUnread();
    }
    if (this.#isPaused) this.#readOn();
    this.#leaveIfDone();
  }

  /** Hands out the answers that are ready, from the first in line to the first that is not. */
  #answer(): void {
    const encoding = (this.#encoding ??= new FramedBinary(this.#host.limits));
    for (let place = this.#line.first; place !== undefined && place.type !== 0; place = this.#line.first) {
      this.#waitingBytes -= place.body.length;
      if (this.#outgoing.length === 0 && place.next !== undefined && !this.#isReading) queueMicrotask(this.#flush);
      this.#write(encoding, place, place.type);
      this.#line.shift();
      this.#line.free(place);
      this.#underWay--;
    }
    this.#flushIfAlone(this.#line.first === undefined);
  }

  /** Hands out one answer before all that stand in line. */
  #overtake(place: ThriftCall, type: 2 | 3): void {
    this.#anyOrder?.remove(place);
    if (this.#outgoing.length === 0 && this.#underWay > 1 && !this.#isReading) queueMicrotask(this.#flush);
    this.#write(this.#encoding as Encoding, place, type);
    this.#line.free(place);
    this.#underWay--;
    this.#flushIfAlone(this.#underWay === 0);
  }

  /** An answer behind which no other is to come leaves now; those to calls that are still being read leave together, when all are read. */
  #flushIfAlone(isLast: boolean): void {
    if (this.#isReading ? this.#outgoing.length >= GATHERED_MAX : isLast) this.#flush();
  }

  /**
   * Tells a client that goes by sequence ids, in a message of id 0, that no further call is taken here. At the end it is told once more: what it has
   * no answer to by then has certainly not run.
   */
  #sendGoAway(isEnd: boolean): void {
    if (this.#anyOrder === undefined || this.#encoding === undefined) return;
    const error = isEnd ? draining() : drainBegins();
    const headers = headersOfError(error);
    this.#encoding.write(
      MESSAGE_TYPE.exception,
      '',
      0,
      applicationExceptionOf(error),
      this.#outgoing,
      undefined,
      headers,
    );
    this.#flush();
  }

  #write(encoding: Encoding, { target, seqId, isSilent, body, version, error }: ThriftCall, type: 2 | 3): void {
    const { method, schema } = target;
    const headers = encoding.carriesHeaders === true ? this.#headersOf(version, error) : undefined;
    const result = type === MESSAGE_TYPE.reply ? schema?.result : undefined;
    const before = this.#outgoing.length;
    try {
      encoding.write(type, method, seqId, isSilent ? NOTHING : body, this.#outgoing, result, headers);
    } catch (error) {
      // An answer that cannot be said in this encoding must not be missing in the line.
      this.#outgoing.length = before;
      const why = applicationExceptionOf(asKatamariError(error));
      encoding.write(MESSAGE_TYPE.exception, method, seqId, why, this.#outgoing, undefined, headers);
    }
  }

  #headersOf(version: string, error: KatamariError | undefined): Readonly<Record<string, string>> | undefined {
    if (error !== undefined) return headersOfError(error);
    if (version === '') return undefined;
    if (this.#versionHeaders?.['katamari-version'] !== version) this.#versionHeaders = { 'katamari-version': version };
    return this.#versionHeaders;
  }

  readonly #flush = (): void => {
    const pieces = this.#outgoing;
    if (pieces.length === 0 || this.#state === 'gone') return;
    this.#outgoing = [];
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (pieces.length === 1) {
      this.#socket.write(pieces[0] as Uint8Array);
    } else if (bytes <= JOINED_BYTES_MAX) {
      // A copy of small answers costs less than what a stream does for each piece that it is given.
      this.#socket.write(Buffer.concat(pieces, bytes));
    } else {
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece);
      this.#socket.uncork();
    }
    this.#checkUnread();
  };

  /** A client that calls and does not read its answers is not read either; one that has far too many is let go. */
  #checkUnread(): void {
    const unread = this.#socket.writableLength + this.#waitingBytes;
    if (unread > UNREAD_BYTES_MAX) this.#pause();
    if (unread > UNREAD_FRAMES_MAX * this.#host.limits.frameBytesMax) this.close();
  }

  #pause(): void {
    if (this.#isPaused || this.#state !== 'open') return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  /** Goes on reading when there is room again: what is in the inbox first, then the socket. */
  readonly #readOn = (): void => {
    if (!this.#isPaused || this.#isReading || this.#state !== 'open' || !this.#hasRoom()) return;
    this.#isPaused = false;
    const nowMs = this.#host.clock.nowMs();
    this.#begunAtMs = nowMs;
    if (!this.#inbox.isEmpty) this.#read(this.#inbox.peek(), nowMs);
    if (!this.#isPaused) this.#socket.resume();
  };

  /** Half of the limits, so that a connection does not stop and go with every call. */
  #hasRoom(): boolean {
    if (this.#underWay > this.#host.limits.pipelineMax >> 1) return false;
    return this.#socket.writableLength + this.#waitingBytes <= UNREAD_BYTES_MAX / 2;
  }

  /** Reads no more, and answers with an error behind what came before: to the call that was being read, if its head could be. */
  #break(error: KatamariError, nowMs: number): void {
    if (this.#state !== 'open') return;
    this.#state = 'ending';
    const head = this.#encoding?.head;
    const target = head === undefined ? this.#host.targets.nameless : this.#host.targets.of(head.name, nowMs);
    const isOneway = head?.type === MESSAGE_TYPE.oneway && this.#encoding?.answersOneway !== true;
    this.onError(this.#accept(target, head?.seqId ?? 0, isOneway, false, nowMs), error);
  }

  #leaveIfDone(): void {
    if (this.#line.first !== undefined || this.#isReading || (this.#anyOrder?.size ?? 0) > 0) return;
    if (this.#state === 'ending' || (this.#state === 'open' && this.#isDraining && this.#begunBytes === 0))
      this.#leave();
  }

  #leave(): void {
    this.#sendGoAway(true);
    this.#flush();
    if (this.#state === 'gone') return;
    this.#state = 'leaving';
    this.#activeAtMs = this.#host.clock.nowMs();
    this.#socket.end();
    this.#socket.resume();
  }

  #callerName(): string {
    if (this.#caller === '') {
      const { remoteAddress = '?', remotePort = 0 } = this.#socket;
      this.#caller = `thrift ${remoteAddress.includes(':') ? `[${remoteAddress}]` : remoteAddress}:${remotePort}`;
    }
    return this.#caller;
  }
}

function cancel(place: ThriftCall, nowMs: number): void {
  if (place.type !== 0) return;
  place.isCancelled = true;
  place.stats.settle('cancelled', nowMs - place.acceptedAtMs, 0);
}

/** A result struct whose one field is not `success` (id 0): a declared exception. */
function isDeclaredException(body: Uint8Array): boolean {
  return body.length > 3 && body[0] !== 0 && (body[1] !== 0 || body[2] !== 0);
}

/** Made once: a reason of its own for each connection would cost a stack trace each. */
const GONE = new KatamariError('cancelled', 'The client has closed its connection');
/** How soon the kernel asks after a client that says nothing, in ms. */
const KEEP_ALIVE_MS = 60_000;
/** How long a client may take to read its last answers and to end, in ms; begins anew whenever it reads some. */
const LEAVE_MS = 1_000;
/** Answers that leave together are copied into one piece up to so many bytes. */
const JOINED_BYTES_MAX = 16_384;
/** Answers to calls that were read together leave once there are so many. */
const GATHERED_MAX = 64;
/** Answers that a client has not read, in bytes: above this it is not read either. */
const UNREAD_BYTES_MAX = 1024 * 1024;
/** The same in frames of the largest size: above this the client is let go. */
const UNREAD_FRAMES_MAX = 8;
