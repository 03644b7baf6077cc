// One connection of a Thrift client: detects its transport and protocol, cuts messages, sends the calls to the mesh
// and writes the replies. OrderedConnection provides backpressure, reply order, time limits and the graceful close.
// This class adds:
//
// - Replies leave in the order of the calls, since ordinary clients match them by order. Calls that ask for
//   `katamari-any-order` (a THeader) are replied to as soon as they are ready. A client that makes such calls matches
//   replies by sequence id, so it understands the message that the connection will close (`sendGoAway`).
// - Oneway calls get no reply and outlive their connection. Over HTTP, where each message has a reply, an empty one
//   leaves as soon as the mesh has accepted the call.
// - A client that breaks the protocol gets the replies to its earlier calls, then an exception that says why. Then
//   the connection closes.
// - A connection that begins with a TLS handshake goes to the TLS listener. The decrypted stream is a new connection.
import {
  CallSignal,
  certificateIdentityOf,
  DenseSet,
  noRoom,
  OrderedConnection,
  type TimedPipelineLimits,
  tooMuchToSend,
  withoutContext,
} from '../../core/link/mod.ts';
import {
  type ByteAccount,
  type ByteLedger,
  type Clock,
  asKatamariError,
  formatAddress,
  KatamariError,
  type FaceplateLimits,
} from '../../core/mod.ts';
import {
  ANONYMOUS,
  coverageHeaders,
  createCall,
  PeerIdentity,
  withCall,
  type Call,
  type CallerIdentity,
  type MeshAccess,
  type Reply,
  type ShardCoverage,
} from '../../core/rpc/mod.ts';
import { type CheckHead, type Encoding, type MessageFacts, FramedBinary } from '../../core/thrift/encodings/mod.ts';
import type { HttpGuard } from '../../core/http/mod.ts';
import { applicationExceptionOf, MESSAGE_TYPE, NOTHING } from '../../core/thrift/mod.ts';
import { ThriftCallOptions } from './call-options.ts';
import { detectProtocol } from './detect-protocol.ts';
import { headersOfError } from './error-headers.ts';
import type { MethodTarget, MethodTargets } from './method-targets.ts';
import { drainBegins, draining, framedRefusal, halfSent, unknownProtocol, wantsTls } from './refusals.ts';
import { type ThriftCall, type ThriftCallOwner, ThriftCallPool } from './thrift-call.ts';

import type { Socket } from 'node:net';

/** State and services that all connections of a faceplate share. */
export interface ConnectionHost {
  readonly mesh: MeshAccess;
  readonly limits: FaceplateLimits;
  readonly pipelineLimits: TimedPipelineLimits;
  readonly clock: Clock;
  readonly ledger: ByteLedger;
  readonly targets: MethodTargets;
  /** Checks the head of each HTTP request. */
  readonly guard: HttpGuard;
  /** Counts a oneway call. It outlives its connection, and the drain of the faceplate waits for it. */
  onewayStarted(): void;
  onewayEnded(): void;
  onClose(connection: ThriftConnection): void;
  /** Takes over a connection that begins with a TLS handshake; undefined when the port has no TLS. */
  readonly startTls: ((socket: Socket, begun: Buffer) => void) | undefined;
  /** Refuses clients that do not speak TLS. */
  readonly isTlsRequired: boolean;
}

/** The limits of Thrift connections. */
export function pipelineLimitsOf({
  pipelineMax,
  frameBytesMax,
  idleMs,
  requestMs,
}: FaceplateLimits): TimedPipelineLimits {
  return {
    pipelineMax,
    unreadBytesMax: UNREAD_BYTES_MAX,
    unreadBytesClose: UNREAD_FRAMES_MAX * frameBytesMax,
    idleMs,
    requestMs,
  };
}

export class ThriftConnection extends OrderedConnection<ThriftCall> implements ThriftCallOwner {
  readonly #host: ConnectionHost;
  readonly #isSecure: boolean;
  readonly #calls: ThriftCallPool = new ThriftCallPool(this);
  /** Calls in flight whose replies may leave in any order; created for the first one. */
  #anyOrder: DenseSet<ThriftCall> | undefined;
  #encoding: Encoding | undefined;
  #output: Uint8Array[] = [];
  /** Call options from the headers of the previous message. */
  #callOptions: ThriftCallOptions | undefined;
  /** Headers of replies from one version. The same object is reused, so that it is encoded once. */
  #versionHeaders: Readonly<Record<string, string>> | undefined;
  /** The same for replies that a rule of a route has led, and for those of an index with its coverage. */
  #moreHeaders: Readonly<Record<string, string>> | undefined;
  /** Aborted when the client disconnects; created for the first call. */
  #gone: CallSignal | undefined;
  #caller = '';
  /** Created for the first call, when the handshake of a TLS connection is complete. */
  #peer: PeerIdentity | undefined;

  /** @param isSecure whether the TLS handshake is complete */
  constructor(socket: Socket, host: ConnectionHost, isSecure = false) {
    super(socket, host.pipelineLimits, host.clock, accountOf(socket, host.ledger));
    this.#host = host;
    this.#isSecure = isSecure;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  /** Refuses the connection: sends an exception that says why, and closes. */
  refuse(error: KatamariError): void {
    this.#output.push(framedRefusal(error));
    this.unflushed++;
    this.leave();
  }

  onReply(call: ThriftCall, reply: Reply): void {
    if (call.isCancelled) return;
    if (!call.isOneway && this.account.exceeds(reply.body.length)) {
      this.onError(call, tooMuchToSend(reply.body.length, this.account));
      return;
    }
    const { stats } = call;
    stats.settle('ok', this.clock.nowMs() - call.acceptedAtMs, reply.context.queueUs);
    if (reply.isException || isDeclaredException(reply.body)) stats.exceptions++;
    call.version = reply.context.version;
    call.coverage = reply.context.coverage;
    call.rule = reply.context.rule;
    this.#settle(call, reply.isException ? MESSAGE_TYPE.exception : MESSAGE_TYPE.reply, reply.body);
  }

  onError(call: ThriftCall, error: KatamariError): void {
    if (call.isCancelled) return;
    const tookMs = this.clock.nowMs() - call.acceptedAtMs;
    call.stats.settle(error.code, tookMs, error.facts.stage === 'queue' ? tookMs * 1000 : 0);
    call.error = error;
    if (call.answer !== undefined) call.answer.error = error;
    this.#settle(call, MESSAGE_TYPE.exception, call.isOneway ? NOTHING : applicationExceptionOf(error));
  }

  /** Cancels the calls in flight, except oneway calls. */
  protected onClosed(): void {
    const nowMs = this.clock.nowMs();
    for (let call = this.first; call !== undefined; call = call.next) cancel(call, nowMs);
    for (const call of this.#anyOrder?.all() ?? []) cancel(call, nowMs);
    this.#gone?.abort(GONE);
    this.#host.onClose(this);
  }

  protected onOverdue(nowMs: number): void {
    this.#break(halfSent(this.input.bytes, this.limits.requestMs), nowMs);
  }

  protected onOverloaded(nowMs: number): void {
    this.#break(noRoom(this.account, this.limits.requestMs), nowMs);
  }

  protected read(bytes: Buffer): number {
    const nowMs = this.clock.nowMs();
    try {
      const encoding = this.#encoding ?? this.#detect(bytes, nowMs);
      return encoding === undefined ? 0 : this.#serveWhole(encoding, bytes, nowMs);
    } catch (error) {
      this.#break(asKatamariError(error), nowMs);
      return bytes.length;
    }
  }

  /** Serves the messages that are complete; returns the offset behind the last one. */
  #serveWhole(encoding: Encoding, bytes: Buffer, nowMs: number): number {
    let at = 0;
    while (at < bytes.length && this.isServing && !this.isPaused) {
      const next = encoding.next(bytes, at, bytes.length);
      if (next === -1) {
        this.#sendContinue(encoding);
        break;
      }
      const isLate = this.isLate(at);
      at = next;
      const { isLast, transportReply } = encoding;
      if (transportReply === undefined) this.#serve(encoding.head as MessageFacts, encoding, nowMs, isLate);
      else this.#answerAtOnce(transportReply);
      if (isLast === true && this.isServing) this.state = 'finishing';
    }
    this.declaredBytes = encoding.declaredBytes ?? 0;
    return at;
  }

  #detect(bytes: Buffer, nowMs: number): Encoding | undefined {
    const { limits, targets, clock, guard } = this.#host;
    const checkHead: CheckHead = (head) => guard.check(head, this.socket.remoteAddress ?? '');
    const found = detectProtocol(bytes, limits, (head) => targets.of(head.name, clock.nowMs()).schema?.args, checkHead);
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

  /** Hands the socket to the TLS listener, which opens a new connection after the handshake. */
  #startTls(begun: Buffer, nowMs: number): void {
    const { startTls } = this.#host;
    if (startTls === undefined || this.#isSecure) {
      this.#break(unknownProtocol('a TLS handshake'), nowMs);
      return;
    }
    this.release();
    this.account.close();
    this.#host.onClose(this);
    startTls(this.socket, begun);
  }

  /** Sends `100 Continue` to an HTTP client that waits for it before it sends the body. */
  #sendContinue(encoding: Encoding): void {
    const interim = this.first === undefined ? encoding.takeInterim?.() : undefined;
    if (interim === undefined) return;
    this.#output.push(interim);
    this.unflushed++;
    this.flush();
  }

  #serve(head: MessageFacts, encoding: Encoding, nowMs: number, isLate: boolean): void {
    const { body, headers, answersOneway, keepsNoOrder } = encoding;
    if (head.type !== MESSAGE_TYPE.call && head.type !== MESSAGE_TYPE.oneway) {
      throw new KatamariError('bad_request', `Message type is ${head.type}, expected 1 (call) or 4 (oneway)`);
    }
    const { mesh, targets } = this.#host;
    const options = ThriftCallOptions.read(headers, head.name, this.#callOptions);
    this.#callOptions = options;
    const target = targets.of(options?.name ?? head.name, nowMs);
    const isOneway = head.type === MESSAGE_TYPE.oneway || target.isOneway;
    const isAnyOrder = keepsNoOrder === true && options?.isAnyOrder === true;
    const accepted = this.#accept(target, head.seqId, isOneway, isAnyOrder, nowMs);
    this.#book(accepted, body.length);
    if (isOneway && answersOneway === true) accepted.answer = this.#silentAnswer(target, head.seqId);
    const { answer } = accepted;
    const refusal = isLate ? draining() : options?.refusal;
    if (refusal !== undefined) {
      this.onError(accepted, refusal);
      if (answer !== undefined) this.#answerOneway(accepted, answer);
      return;
    }
    let peer: PeerIdentity;
    let identity: CallerIdentity | Promise<CallerIdentity>;
    try {
      peer = this.#peer ??= this.#identifyPeer();
      identity = peer.of(options?.authorization ?? '');
    } catch (error) {
      this.onError(accepted, asKatamariError(error));
      if (answer !== undefined) this.#answerOneway(accepted, answer);
      return;
    }
    const plain = createCall({
      service: target.service,
      version: target.version,
      method: target.method,
      // Only the mesh may set a context (deadline, version, caller). A context from a client is removed, so that it
      // reaches neither the mesh nor a plain server.
      args: withoutContext(body),
      oneway: isOneway,
      deadlineMs: nowMs + mesh.timeoutMs(),
      caller: this.#callerName(),
      identity: 'then' in identity ? ANONYMOUS : identity,
      // A client may disconnect as soon as it has sent a oneway call. The call continues.
      signal: isOneway ? undefined : (this.#gone ??= new CallSignal()),
    });
    const call = options?.of(plain, nowMs, peer.isConsumed) ?? plain;
    if ('then' in identity) this.#sendVerified(call, identity, accepted);
    else {
      mesh.send(call, accepted);
      if (answer !== undefined) this.#answerOneway(accepted, answer);
    }
  }

  /** Sends a call once its token is verified. Its reply keeps its place among the others. */
  #sendVerified(call: Call, verifying: Promise<CallerIdentity>, accepted: ThriftCall): void {
    const { answer } = accepted;
    verifying
      .then(
        (identity) => {
          if (!accepted.isCancelled) this.#host.mesh.send(withCall(call, { identity }), accepted);
        },
        (error: unknown) => this.onError(accepted, asKatamariError(error)),
      )
      .finally(() => {
        if (answer !== undefined) this.#answerOneway(accepted, answer);
      });
  }

  #identifyPeer(): PeerIdentity {
    const { remoteAddress = '' } = this.socket;
    return new PeerIdentity(this.#host.mesh.authenticator, remoteAddress, certificateIdentityOf(this.socket));
  }

  /** Sends a reply of the transport after the replies to earlier calls. */
  #answerAtOnce(reply: Uint8Array): void {
    const call = this.#calls.take(this.#host.targets.nameless);
    call.isOneway = false;
    call.transportReply = reply;
    call.type = MESSAGE_TYPE.reply;
    this.enqueue(call);
    this.begin();
    this.ready(call);
  }

  /** Reserves the place of an empty reply in the order of replies. The oneway call that it answers is counted. */
  #silentAnswer(target: MethodTarget, seqId: number): ThriftCall {
    const answer = this.#calls.take(target);
    answer.seqId = seqId;
    answer.isOneway = false;
    answer.isSilent = true;
    this.enqueue(answer);
    this.begin();
    return answer;
  }

  /** Sends the empty reply, with the error of a call that the mesh has refused at once. */
  #answerOneway(accepted: ThriftCall, answer: ThriftCall): void {
    accepted.answer = undefined;
    this.#settle(answer, answer.error === undefined ? MESSAGE_TYPE.reply : MESSAGE_TYPE.exception, NOTHING);
  }

  /** Counts a call as accepted and queues it. */
  #accept(target: MethodTarget, seqId: number, isOneway: boolean, isAnyOrder: boolean, nowMs: number): ThriftCall {
    const call = this.#calls.take(target);
    call.seqId = seqId;
    call.acceptedAtMs = nowMs;
    call.isOneway = isOneway;
    call.stats.accept();
    call.isAnyOrder = isAnyOrder;
    if (isAnyOrder && this.#anyOrder === undefined) {
      this.#anyOrder = new DenseSet();
      this.knowsGoAway = true;
    }
    if (isOneway) this.#host.onewayStarted();
    else if (isAnyOrder) this.#anyOrder?.add(call);
    else this.enqueue(call);
    this.begin();
    return call;
  }

  /** Books the bytes of a request. A oneway call outlives its connection, so its bytes are booked apart. */
  #book(call: ThriftCall, bytes: number): void {
    call.requestBytes = bytes;
    if (call.isOneway) this.account.add(bytes);
    else this.requestBytes += bytes;
  }

  /** Queues the reply of a call that has ended and was counted; it leaves after the replies before it. */
  #settle(call: ThriftCall, type: 2 | 3, body: Uint8Array): void {
    const bytes = call.requestBytes;
    call.requestBytes = 0;
    if (!call.isOneway) this.requestBytes -= bytes;
    else {
      this.account.add(-bytes);
      this.#calls.free(call);
      this.#host.onewayEnded();
      this.end();
      return;
    }
    call.type = type;
    call.body = body;
    if (call.isAnyOrder) {
      this.#anyOrder?.remove(call);
      this.sendAtOnce(call);
    } else {
      this.waitingBytes += body.length;
      this.ready(call);
    }
  }

  protected override get hasRepliesDue(): boolean {
    return super.hasRepliesDue || (this.#anyOrder !== undefined && this.#anyOrder.size > 0);
  }

  /**
   * Writes a message of sequence id 0. After the last such message, a client knows that calls without a reply did not
   * run.
   */
  protected override sendGoAway(isEnd: boolean): void {
    if (this.#encoding === undefined) return;
    const error = isEnd ? draining() : drainBegins();
    const headers = headersOfError(error);
    const body = applicationExceptionOf(error);
    this.#encoding.write(MESSAGE_TYPE.exception, '', 0, body, this.#output, undefined, headers);
    this.unflushed++;
    this.flush();
  }

  protected writeReply(call: ThriftCall): void {
    const { target, seqId, isSilent, isAnyOrder, body } = call;
    const type = call.type as 2 | 3;
    if (!isAnyOrder) this.waitingBytes -= body.length;
    if (call.transportReply !== undefined) {
      this.#output.push(call.transportReply);
      this.#calls.free(call);
      return;
    }
    const encoding: Encoding = (this.#encoding ??= new FramedBinary(this.#host.limits));
    const { method, schema } = target;
    const headers = encoding.carriesHeaders === true ? this.#headersOf(call) : undefined;
    const result = type === MESSAGE_TYPE.reply ? schema?.result : undefined;
    const before = this.#output.length;
    try {
      encoding.write(type, method, seqId, isSilent ? NOTHING : body, this.#output, result, headers);
    } catch (error) {
      // The encoding cannot express this reply. Send an exception instead, because clients match replies by order.
      this.#output.length = before;
      const why = applicationExceptionOf(asKatamariError(error));
      encoding.write(MESSAGE_TYPE.exception, method, seqId, why, this.#output, undefined, headers);
    }
    this.#calls.free(call);
  }

  protected override get replyStart(): number | undefined {
    return this.#encoding?.replyStart;
  }

  #headersOf({ version, coverage, rule, error }: ThriftCall): Readonly<Record<string, string>> | undefined {
    if (error !== undefined) return headersOfError(error);
    if (version === '') return undefined;
    if (coverage !== undefined || rule !== undefined) return this.#moreHeadersOf(version, coverage, rule);
    if (this.#versionHeaders?.['katamari-version'] !== version) this.#versionHeaders = { 'katamari-version': version };
    return this.#versionHeaders;
  }

  #moreHeadersOf(
    version: string,
    coverage: ShardCoverage | undefined,
    rule: string | undefined,
  ): Readonly<Record<string, string>> {
    const headers: Readonly<Record<string, string>> = coverage === undefined ? {} : coverageHeaders(coverage);
    const known = this.#moreHeaders;
    const isKnown =
      known?.['katamari-version'] === version &&
      known['katamari-rule'] === rule &&
      known['katamari-coverage'] === headers['katamari-coverage'] &&
      known['katamari-missing'] === headers['katamari-missing'];
    if (isKnown) return known;
    const why = rule === undefined ? {} : { 'katamari-rule': rule };
    return (this.#moreHeaders = { 'katamari-version': version, ...why, ...headers });
  }

  protected writeOut(): void {
    const pieces = this.#output;
    this.#output = [];
    if (this.takeSentAhead()) {
      const first = pieces[0] as Uint8Array;
      if (first[0] !== this.replyStart) {
        this.close();
        return;
      }
      pieces[0] = first.subarray(1);
    }
    if (pieces.length === 1) {
      this.socket.write(pieces[0] as Uint8Array);
      return;
    }
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (bytes <= JOINED_BYTES_MAX) {
      // Copying small replies costs less than one stream write per reply.
      this.socket.write(Buffer.concat(pieces, bytes));
    } else {
      this.socket.cork();
      for (const piece of pieces) this.socket.write(piece);
      this.socket.uncork();
    }
  }

  /**
   * Stops reading, and sends an error after the earlier replies. It answers the call that was being read, if the head
   * of that call could be decoded.
   */
  #break(error: KatamariError, nowMs: number): void {
    if (!this.isServing) return;
    this.state = 'finishing';
    const head = this.#encoding?.head;
    const target = head === undefined ? this.#host.targets.nameless : this.#host.targets.of(head.name, nowMs);
    const isOneway = head?.type === MESSAGE_TYPE.oneway && this.#encoding?.answersOneway !== true;
    const call = this.#accept(target, head?.seqId ?? 0, isOneway, false, nowMs);
    call.transportReply = this.#encoding?.refusal?.(error);
    this.onError(call, error);
  }

  #callerName(): string {
    if (this.#caller === '') {
      const { remoteAddress = '?', remotePort = 0 } = this.socket;
      this.#caller = `thrift ${formatAddress({ host: remoteAddress, port: remotePort })}`;
    }
    return this.#caller;
  }
}

function accountOf(socket: Socket, ledger: ByteLedger): ByteAccount {
  return ledger.open((socket.remoteAddress ?? '').replace(/^::ffff:/, ''));
}

function cancel(call: ThriftCall, nowMs: number): void {
  if (call.type !== 0) return;
  call.isCancelled = true;
  call.stats.settle('cancelled', nowMs - call.acceptedAtMs, 0);
}

/** Whether a result struct holds a declared exception: its first field is not `success` (id 0). */
function isDeclaredException(body: Uint8Array): boolean {
  return body.length > 3 && body[0] !== 0 && (body[1] !== 0 || body[2] !== 0);
}

/** Created once: an error per connection would cost a stack trace each. */
const GONE = new KatamariError('cancelled', 'The client has closed its connection');
/** Idle time before the kernel sends TCP keep-alive probes, in ms. */
const KEEP_ALIVE_MS = 60_000;
/** Replies that leave together are copied into one buffer, up to this many bytes. */
const JOINED_BYTES_MAX = 16_384;
/** Backpressure: above this many unread reply bytes, the client's socket is not read. */
const UNREAD_BYTES_MAX = 1024 * 1024;
/** Above this many unread reply bytes, counted in frames of the largest size, the connection closes. */
const UNREAD_FRAMES_MAX = 8;
