// One HTTP connection on the fast path: serves ordinary POSTs (fast-head.ts) without `node:http`, whose streams and
// request objects cost more than the rest of a small call. At the first request that is not ordinary, `node:http`
// gets the socket for good, after the replies to earlier requests and with every byte that was not served.
//
// OrderedConnection does the backpressure, reply order, time limits and graceful close. This class differs from it
// where `node:http` does, because a client must not be able to tell the two apart:
//
// - After the last reply, the socket closes once its output is written; it does not linger.
// - A new connection counts as one incomplete request, so one that never sends anything ends after `requestMs`.
// - A large body is written in parts (parted-body.ts) while it is the first of the replies that are due, as far as the
//   client reads.
// - An incomplete request is overdue only when the replies to earlier ones are written, because its 408 goes straight
//   to the socket.
//
// A head that is identical to the previous one is not parsed again, because most clients repeat their heads.
import { CallSignal, noRoom, OrderedConnection, type TimedPipelineLimits, type QueuedCall } from '../link/mod.ts';
import { KatamariError, systemClock, type ByteAccount, type FaceplateLimits } from '../mod.ts';
import type { HttpGuard } from './guard.ts';
import { HEAD_END, POST_HEAD_BYTES_MAX, POST_START, readFastHead, type FastHead } from './fast-head.ts';
import type { PartedBody } from './parted-body.ts';

import type { Socket } from 'node:net';
import { STATUS_CODES } from 'node:http';

/** The sender of the requests of one connection. */
export interface HttpClient {
  /** For example `127.0.0.1`. */
  readonly address: string;
  readonly socket: Socket;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
  /** What the connection holds. */
  readonly account: ByteAccount;
}

/** Handles one request: calls `call.answer` once, perhaps before it returns. Must not throw. */
export type FastHandler = (body: Buffer, call: HttpCall) => void;

/** The application on the fast path. */
export interface FastApp {
  /**
   * Returns the handler of all requests with this head on this connection; undefined leaves them to `node:http` and
   * its app.
   */
  handlerOf(head: FastHead, client: HttpClient): FastHandler | undefined;
}

export type FastLimits = Pick<FaceplateLimits, 'frameBytesMax' | 'idleMs' | 'requestMs' | 'pipelineMax' | 'headersMax'>;

export interface FastHost {
  readonly app: FastApp;
  readonly guard: HttpGuard;
  readonly limits: FastLimits;
  readonly pipelineLimits: TimedPipelineLimits;
  /** Whether the server drains: the reply to the next request of a connection is its last. */
  readonly isDraining: boolean;
  /** Header lines of a reply after which the connection stays open: `Date`, `Connection` and `Keep-Alive`. */
  keptLines(): string;
  /** Header lines of the last reply of a connection. */
  lastLines(): string;
  /** Takes a socket whose next request is not ordinary; no listener of this connection is left on it. */
  handOver(socket: Socket): void;
  /** Ends a connection whose request is not complete in time, with a 408. */
  overdue(socket: Socket): void;
  /** Ends a connection for whose request there was no room in time, with a 503. */
  overloaded(socket: Socket, error: KatamariError): void;
  onClose(connection: FastConnection): void;
}

/** The limits of connections on the fast path. */
export function pipelineLimitsOf({ pipelineMax, idleMs, requestMs }: FastLimits): TimedPipelineLimits {
  const none = Number.POSITIVE_INFINITY;
  return { pipelineMax, unreadBytesMax: UNREAD_BYTES_MAX, unreadBytesClose: none, idleMs, requestMs };
}

/** One request in flight. */
export class HttpCall implements QueuedCall<HttpCall> {
  readonly #connection: FastConnection;
  /** 0 until it is answered. */
  status = 0;
  /** Content type; '' for a reply without content. */
  type = '';
  fields: Readonly<Record<string, string>> = NO_FIELDS;
  body: string | PartedBody = '';
  /** Whether the head of a response in parts is written. */
  hasBegun = false;
  next: HttpCall | undefined = undefined;

  constructor(connection: FastConnection) {
    this.#connection = connection;
  }

  get isReady(): boolean {
    return this.status !== 0 && (typeof this.body === 'string' || this.body.isDone);
  }

  answer(status: number, type: string, fields: Readonly<Record<string, string>>, body: string | PartedBody): void {
    this.status = status;
    this.type = type;
    this.fields = fields;
    this.body = body;
    this.#connection.onAnswer(this);
  }
}

export class FastConnection extends OrderedConnection<HttpCall> implements HttpClient {
  declare readonly socket: Socket;
  readonly address: string;
  readonly #host: FastHost;
  /** The head that was parsed last, and its result. */
  #head: Buffer = NOTHING;
  #bodyBytes = 0;
  #handler: FastHandler = unready;
  #output = '';
  #isAscii = true;
  #gone: CallSignal | undefined;

  constructor(socket: Socket, host: FastHost, account: ByteAccount) {
    super(socket, host.pipelineLimits, systemClock, account);
    this.#host = host;
    this.address = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    this.begunAtMs = systemClock.nowMs();
  }

  get signal(): AbortSignal {
    return (this.#gone ??= new CallSignal());
  }

  /** Whether a request is in flight, or its head has arrived and a part of its body is missing. */
  get isBusy(): boolean {
    return this.first !== undefined || (this.declaredBytes > 0 && this.state === 'open');
  }

  /** Makes the reply to the newest request the last one, unless a further request has begun. */
  override beginGracefulClose(): void {
    const hasBegun = this.declaredBytes > 0 && this.state === 'open';
    if (this.first !== undefined && !hasBegun && this.state !== 'closed') this.state = 'finishing';
  }

  onAnswer(call: HttpCall): void {
    const { body } = call;
    if (typeof body === 'string') {
      this.waitingBytes += body.length;
      this.ready(call);
    } else if (this.state === 'closed') body.drop();
    else {
      body.onMore = () => this.#writeParts(call, body);
      this.#writeParts(call, body);
    }
  }

  /** Writes the parts of a body, if it is its turn, as far as the client reads. */
  #writeParts(call: HttpCall, body: PartedBody): void {
    if (this.first !== call || this.state === 'closed') return;
    this.isActive = true;
    if (!call.hasBegun) {
      call.hasBegun = true;
      const length = body.length === undefined ? 'transfer-encoding: chunked' : `content-length: ${body.length}`;
      this.#output += this.#headOf(call, `${length}\r\n`, call.next === undefined);
      this.writeOut();
    }
    let hasTaken = false;
    while (this.socket.writableLength < UNREAD_BYTES_MAX) {
      const part = body.take();
      if (part === undefined) break;
      hasTaken = true;
      if (body.length === undefined) this.socket.write(`${part.length.toString(16)}\r\n`, 'latin1');
      this.socket.write(part);
      if (body.length === undefined) this.socket.write('\r\n', 'latin1');
    }
    this.recount();
    if (body.isDone) this.ready(call);
    else if (hasTaken) body.onTaken?.();
  }

  protected override onDrain(): void {
    const { first } = this;
    if (first !== undefined && typeof first.body !== 'string') this.#writeParts(first, first.body);
    super.onDrain();
  }

  protected onOverloaded(): void {
    if (this.first !== undefined) return;
    this.state = 'lingering';
    this.#host.overloaded(this.socket, noRoom(this.account, this.limits.requestMs));
  }

  protected onClosed(): void {
    for (let call = this.first; call !== undefined; call = call.next) {
      if (typeof call.body !== 'string') call.body.drop();
    }
    this.#gone?.abort(GONE);
    this.#host.onClose(this);
  }

  protected onOverdue(): void {
    if (this.first !== undefined) return;
    this.state = 'lingering';
    this.#host.overdue(this.socket);
  }

  /** A response in parts that has begun must not get a byte of another one. */
  protected override get replyStart(): number | undefined {
    return this.first?.hasBegun === true ? undefined : RESPONSE_START;
  }

  protected read(bytes: Buffer): number {
    let at = 0;
    this.declaredBytes = 0;
    while (at < bytes.length && this.state === 'open' && !this.isPaused) {
      // An empty line after a request begins no other one, so the idle timeout applies and not `requestMs`.
      if (this.#head !== NOTHING && isLineEnd(bytes[at])) {
        at++;
        continue;
      }
      const bodyAt = this.#readHead(bytes, at);
      if (bodyAt === MORE) break;
      if (bodyAt === NOT_ORDINARY) {
        this.state = 'handing-over';
        break;
      }
      const end = bodyAt + this.#bodyBytes;
      if (end > bytes.length) {
        this.declaredBytes = end - at;
        break;
      }
      at = end;
      this.#serve(bytes.subarray(bodyAt, end));
    }
    return at;
  }

  /** Returns the offset of the body of the request at `at`, MORE or NOT_ORDINARY. */
  #readHead(bytes: Buffer, at: number): number {
    const known = this.#head;
    const whole = at + known.length;
    if (known !== NOTHING && whole <= bytes.length && bytes.compare(known, 0, known.length, at, whole) === 0)
      return whole;
    const end = bytes.indexOf(HEAD_END_BYTES, at) + HEAD_END.length;
    if (end < HEAD_END.length) {
      // After another request, an incomplete head is the end of a long read, so it waits for the rest. A client that
      // sends heads in pieces is not ordinary.
      const isCut = at > 0 && bytes.length - at <= POST_HEAD_BYTES_MAX;
      return isCut && POST_START.startsWith(bytes.toString('latin1', at, at + POST_START.length)) ? MORE : NOT_ORDINARY;
    }
    if (end - at > POST_HEAD_BYTES_MAX) return NOT_ORDINARY;
    const head = readFastHead(bytes.toString('latin1', at, end), this.#host.limits);
    if (head === undefined || !this.#host.guard.admits(head.headers)) return NOT_ORDINARY;
    const handler = this.#host.app.handlerOf(head, this);
    if (handler === undefined) return NOT_ORDINARY;
    this.#head = Buffer.from(bytes.subarray(at, end));
    this.#bodyBytes = head.bodyBytes;
    this.#handler = handler;
    return end;
  }

  #serve(body: Buffer): void {
    this.begin();
    const call = new HttpCall(this);
    this.enqueue(call);
    if (this.#host.isDraining) this.state = 'finishing';
    this.#handler(body, call);
  }

  protected writeReply(call: HttpCall): void {
    const { type, body } = call;
    if (typeof body !== 'string') {
      // All parts are written.
      if (body.length === undefined) this.#output += '0\r\n\r\n';
      this.#beginNext();
      return;
    }
    this.waitingBytes -= body.length;
    let length = '';
    if (type !== '') {
      const bytes = Buffer.byteLength(body);
      if (bytes !== body.length) this.#isAscii = false;
      length = `content-length: ${bytes}\r\n`;
    }
    this.#output += this.#headOf(call, length, this.first === undefined) + body;
    this.#beginNext();
  }

  /** Begins the next reply if it comes in parts. A reply that is ready at once is written by the caller. */
  #beginNext(): void {
    const next = this.first;
    if (next === undefined || typeof next.body === 'string' || next.body.isDone) return;
    const { body } = next;
    queueMicrotask(() => this.#writeParts(next, body));
  }

  /** Returns the head of a response. @param isNewest whether no further request is in flight */
  #headOf({ status, type, fields }: HttpCall, length: string, isNewest: boolean): string {
    let head = status === 200 ? STATUS_LINE_OK : `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
    if (type !== '') head += `content-type: ${type}\r\n${length}`;
    // A header value from a chassis must not end the header line.
    for (const name in fields) head += `${name}: ${printable(fields[name] as string)}\r\n`;
    return `${head}${this.state === 'finishing' && isNewest ? this.#host.lastLines() : this.#host.keptLines()}\r\n`;
  }

  protected writeOut(): void {
    if (this.#output === '') return;
    const text = this.takeSentAhead() ? this.#output.slice(1) : this.#output;
    this.#output = '';
    this.socket.write(text, this.#isAscii ? 'latin1' : 'utf8');
    this.#isAscii = true;
  }

  /** The last reply is written: closes, or hands the socket to `node:http`. */
  protected override leave(): void {
    this.flush();
    if (this.state === 'handing-over') this.#handOver();
    else if (this.state !== 'closed') {
      this.recount();
      this.state = 'closed';
      this.onClosed();
      this.socket.destroySoon();
    }
  }

  #handOver(): void {
    const { socket } = this;
    const rest = this.input.peek();
    this.release();
    this.account.set(0);
    this.#host.onClose(this);
    socket.pause();
    if (!socket.readableEnded) socket.unshift(rest);
    this.#host.handOver(socket);
    socket.resume();
    if (!socket.readableEnded) return;
    // The client ended its side while replies were due. Such a socket takes nothing back.
    socket.emit('data', rest);
    socket.emit('end');
  }
}

/**
 * Returns `text` with `?` for every character that is not printable ASCII. The loop costs less than the pattern, and
 * hardly any text has such a character.
 */
function printable(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < FIRST_PRINTABLE || code > LAST_PRINTABLE) return text.replace(NOT_PRINTABLE, '?');
  }
  return text;
}

function isLineEnd(byte: number | undefined): boolean {
  return byte === CARRIAGE_RETURN || byte === LINE_FEED;
}

function unready(): void {}

/** Created once, so that closing a connection does not allocate an error. */
const GONE = new KatamariError('cancelled', 'The caller has gone');
const NOTHING: Buffer = Buffer.alloc(0);
const NO_FIELDS: Readonly<Record<string, string>> = Object.freeze({});
const HEAD_END_BYTES: Buffer = Buffer.from(HEAD_END);
const MORE = -1;
const NOT_ORDINARY = -2;
/** Backpressure: at this many unread reply bytes, the socket is not read either. */
const UNREAD_BYTES_MAX = 65_536;
/** `H` */
const RESPONSE_START = 0x48;
const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;
const STATUS_LINE_OK = 'HTTP/1.1 200 OK\r\n';
const FIRST_PRINTABLE = 0x20;
const LAST_PRINTABLE = 0x7e;
const NOT_PRINTABLE = /[^\x20-\x7e]/g;
