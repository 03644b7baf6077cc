// A connection for as long as nothing but ordinary POSTs (fast-head.ts) comes on it: reads them, hands them to the app, and writes the answers in
// the order of the requests. No stream and no object of HTTP is made for a request: those of `node:http` cost more than the rest of a small call.
import { CallSignal, ReceiveBuffer } from '../link/mod.ts';
import { KatamariError, type FaceplateLimits } from '../mod.ts';
import { HEAD_END, POST_HEAD_BYTES_MAX, POST_START, readFastHead, type FastHead } from './fast-head.ts';

// Whatever else comes, the socket goes to `node:http` for good, with every byte that was not served, once the answers before it are written.
//
// Two speeds, twice. A head that is byte for byte the one before is not read again, since clients repeat themselves. The answer to the only request
// under way goes straight to the socket, those of several leave together at the end of the turn.
//
// Limits: requests under way (who has more is ended), answers that the client does not read (then the socket is not read either), and by the
// sweep of PostDoor the idle time and the time for a request that was begun.

import type { Socket } from 'node:net';
import { STATUS_CODES } from 'node:http';

/** Who sends the requests of one connection. */
export interface HttpClient {
  /** For example `127.0.0.1`. */
  readonly address: string;
  /** Aborted when it has gone. */
  readonly signal: AbortSignal;
}

/** Answers one request: calls `place.answer` once, perhaps before it returns. The body is good until it returns. Must not throw. */
export type FastHandler = (body: Buffer, place: HttpCall) => void;

/** What ordinary POSTs are answered by. */
export interface FastApp {
  /** The handler of all requests with this head, on this connection; undefined leaves them to the other app, by way of `node:http`. */
  handlerOf(head: FastHead, client: HttpClient): FastHandler | undefined;
}

export interface FastHost {
  readonly app: FastApp;
  readonly limits: Pick<FaceplateLimits, 'frameBytesMax' | 'idleMs' | 'requestMs' | 'pipelineMax' | 'headersMax'>;
  /** Each answer says from now on that it is the last of its connection. */
  readonly isDraining: boolean;
  /** `date` and what says that the connection is kept, as lines of an answer's head. */
  keptLines(): string;
  /** The same when it is not. */
  lastLines(): string;
  /** Takes a socket whose next bytes are not for here; all listeners of this connection are off. */
  handOver(socket: Socket): void;
  /** A request is not complete in time: the end, with a word about it. */
  overdue(socket: Socket): void;
  onClose(connection: FastConnection): void;
}

/** A request that waits for its answer, in the line of its connection. */
export class HttpCall {
  readonly #connection: FastConnection;
  /** 0: not answered. */
  status = 0;
  /** Of the content; '' for an answer without. */
  type = '';
  fields: Readonly<Record<string, string>> = NO_FIELDS;
  body = '';
  /** The connection ends with it. */
  isLast = false;
  next: HttpCall | undefined = undefined;

  constructor(connection: FastConnection) {
    this.#connection = connection;
  }

  answer(status: number, type: string, fields: Readonly<Record<string, string>>, body: string): void {
    this.status = status;
    this.type = type;
    this.fields = fields;
    this.body = body;
    this.#connection.onAnswer(this);
  }
}

/**
 * - open: reads and answers.   - ending: an answer in line is the last; what still comes is thrown away.
 * - leaving: what came is not ordinary; goes to `node:http` behind the last answer in line.   - gone: closed, or somebody else's.
 */
type FastConnectionState = 'open' | 'ending' | 'leaving' | 'gone';

export class FastConnection implements HttpClient {
  readonly address: string;
  readonly #socket: Socket;
  readonly #host: FastHost;
  readonly #inbox = new ReceiveBuffer();
  #state: FastConnectionState = 'open';
  /** The head that was read last, and what was read from it. */
  #head: Buffer = NOTHING;
  #bodyBytes = 0;
  #handler: FastHandler = unready;
  /** Of the request that is incomplete; 0 while its head is. */
  #declaredBytes = 0;
  #first: HttpCall | undefined;
  #last: HttpCall | undefined;
  #underWay = 0;
  #outgoing = '';
  #isAscii = true;
  #isReading = false;
  #isPaused = false;
  #gone: CallSignal | undefined;
  /** Something came or went since the last sweep: cheaper than to ask for the time. */
  #isActive = true;
  #quietSinceMs: number;
  #unsentSeen = 0;
  /** When the request that is incomplete was begun; a new connection has begun one. */
  #begunAtMs: number;

  // `node:http` gets the socket without these; it has some of its own.
  readonly #listeners: Readonly<Record<string, (chunk: Buffer) => void>> = {
    data: (chunk) => this.#onData(chunk),
    drain: () => this.#onDrain(),
    end: () => this.#onEnd(),
    error: () => this.#socket.destroy(),
    close: () => this.#onClose(),
  };

  constructor(socket: Socket, host: FastHost) {
    this.#socket = socket;
    this.#host = host;
    this.address = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    this.#quietSinceMs = performance.now();
    this.#begunAtMs = this.#quietSinceMs;
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  get signal(): AbortSignal {
    return (this.#gone ??= new CallSignal());
  }

  /** A request is under way, or has come but for a part of its body. */
  get isBusy(): boolean {
    return this.#first !== undefined || (this.#declaredBytes > 0 && this.#state === 'open');
  }

  /** The drain begins: the answer to the last request that has begun is the last one. */
  beginGracefulClose(): void {
    const hasBegun = this.#declaredBytes > 0 && this.#state === 'open';
    if (this.#last === undefined || hasBegun || this.#state === 'gone') return;
    this.#last.isLast = true;
    this.#state = 'ending';
  }

  /** Looks at the clock, in place of timers of its own. */
  sweep(nowMs: number): void {
    const { idleMs, requestMs } = this.#host.limits;
    const unsent = this.#socket.writableLength;
    if (this.#isActive || unsent !== this.#unsentSeen) {
      this.#isActive = false;
      this.#unsentSeen = unsent;
      this.#quietSinceMs = nowMs;
    }
    const isWaiting = this.#first === undefined;
    if (nowMs - this.#quietSinceMs >= idleMs && (isWaiting || unsent > 0)) this.#socket.destroy();
    else if (isWaiting && this.#state === 'open' && !this.#isPaused && nowMs - this.#begunAtMs >= requestMs) {
      this.#state = 'ending';
      this.#host.overdue(this.#socket);
    }
  }

  /** The answer to a request is there; it leaves now or when its turn comes. */
  onAnswer(place: HttpCall): void {
    if (this.#first !== place || this.#state === 'gone') return;
    this.#isActive = true;
    const hasWaiting = this.#outgoing !== '';
    let isLast = false;
    for (
      let next: HttpCall | undefined = place;
      next !== undefined && next.status !== 0 && !isLast;
      next = this.#first
    ) {
      this.#write(next);
      this.#first = next.next;
      // What is done with holds on to nothing: in old memory it would keep the next, and that the next.
      next.next = undefined;
      this.#underWay--;
      isLast = next.isLast;
    }
    if (this.#first === undefined) this.#last = undefined;
    if (isLast) this.#end();
    else if (this.#isReading) return;
    else if (this.#first !== undefined) {
      if (!hasWaiting) queueMicrotask(this.#flush);
    } else {
      this.#flush();
      if (this.#state === 'leaving') this.#giveAway();
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'ending' || this.#state === 'gone') return;
    this.#isActive = true;
    const bytes = this.#inbox.join(chunk, this.#declaredBytes);
    if (this.#state === 'open' && !this.#isPaused) {
      this.#read(bytes);
      return;
    }
    this.#inbox.keep(bytes, 0);
    // What waits for its turn is not read on for ever, but for a while: the end of a connection that is not read is not seen.
    if (this.#inbox.bytes > KEPT_BYTES_MAX) this.#socket.pause();
  }

  /** Serves the requests that are whole and keeps the rest. */
  #read(bytes: Buffer): void {
    let at = 0;
    this.#isReading = true;
    this.#declaredBytes = 0;
    while (at < bytes.length && this.#state === 'open' && !this.#isPaused) {
      const bodyAt = this.#readHead(bytes, at);
      if (bodyAt === MORE) break;
      if (bodyAt === NOT_ORDINARY) {
        this.#state = 'leaving';
        break;
      }
      const end = bodyAt + this.#bodyBytes;
      if (end > bytes.length) {
        this.#declaredBytes = end - at;
        break;
      }
      at = end;
      this.#serve(bytes.subarray(bodyAt, end));
    }
    this.#isReading = false;
    this.#inbox.keep(bytes, this.#state === 'open' || this.#state === 'leaving' ? at : bytes.length);
    if (this.#inbox.isEmpty) this.#begunAtMs = NOTHING_BEGUN;
    else if (at > 0 || this.#begunAtMs === NOTHING_BEGUN) this.#begunAtMs = performance.now();
    this.#flush();
    if (this.#state === 'leaving' && this.#first === undefined) this.#giveAway();
  }

  /** Where the body of the request at `at` begins. */
  #readHead(bytes: Buffer, at: number): number {
    const known = this.#head;
    const whole = at + known.length;
    if (known !== NOTHING && whole <= bytes.length && bytes.compare(known, 0, known.length, at, whole) === 0)
      return whole;
    const end = bytes.indexOf(HEAD_END_BYTES, at) + HEAD_END.length;
    if (end < HEAD_END.length) {
      // Part of a head is waited for behind another request, where a long read was cut. Clients who send heads in pieces are not ordinary.
      const isCut = at > 0 && bytes.length - at <= POST_HEAD_BYTES_MAX;
      return isCut && POST_START.startsWith(bytes.toString('latin1', at, at + POST_START.length)) ? MORE : NOT_ORDINARY;
    }
    if (end - at > POST_HEAD_BYTES_MAX) return NOT_ORDINARY;
    const head = readFastHead(bytes.toString('latin1', at, end), this.#host.limits);
    const handler = head === undefined ? undefined : this.#host.app.handlerOf(head, this);
    if (head === undefined || handler === undefined) return NOT_ORDINARY;
    this.#head = Buffer.from(bytes.subarray(at, end));
    this.#bodyBytes = head.bodyBytes;
    this.#handler = handler;
    return end;
  }

  #serve(body: Buffer): void {
    if (++this.#underWay > this.#host.limits.pipelineMax) {
      this.#socket.destroy();
      this.#onClose();
      return;
    }
    const place = new HttpCall(this);
    if (this.#last === undefined) this.#first = place;
    else this.#last.next = place;
    this.#last = place;
    if (this.#host.isDraining) {
      place.isLast = true;
      this.#state = 'ending';
    }
    this.#handler(body, place);
  }

  #write({ status, type, fields, body, isLast }: HttpCall): void {
    let head = status === 200 ? STATUS_LINE_OK : `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
    if (type !== '') {
      const bytes = Buffer.byteLength(body);
      if (bytes !== body.length) this.#isAscii = false;
      head += `content-type: ${type}\r\ncontent-length: ${bytes}\r\n`;
    }
    // Nothing that comes from a chassis may end a header line.
    for (const name in fields) head += `${name}: ${printable(fields[name] as string)}\r\n`;
    this.#outgoing += `${head}${isLast ? this.#host.lastLines() : this.#host.keptLines()}\r\n${body}`;
  }

  readonly #flush = (): void => {
    const text = this.#outgoing;
    if (text === '' || this.#state === 'gone') return;
    this.#outgoing = '';
    this.#socket.write(text, this.#isAscii ? 'latin1' : 'utf8');
    this.#isAscii = true;
    if (!this.#socket.writableNeedDrain || this.#isPaused) return;
    this.#isPaused = true;
    this.#socket.pause();
  };

  #onDrain(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
    if (this.#state === 'open' && !this.#inbox.isEmpty) this.#read(this.#inbox.peek());
  }

  #giveAway(): void {
    this.#state = 'gone';
    for (const [event, listener] of Object.entries(this.#listeners)) this.#socket.off(event, listener);
    this.#host.onClose(this);
    this.#socket.pause();
    this.#socket.unshift(this.#inbox.peek());
    this.#host.handOver(this.#socket);
    this.#socket.resume();
  }

  /** The last answer is written. */
  #end(): void {
    this.#flush();
    this.#onClose();
    this.#socket.destroySoon();
  }

  /** A client that ends its side waits for nothing more, as `node:http` sees it. */
  #onEnd(): void {
    this.#onClose();
    this.#socket.end();
  }

  #onClose(): void {
    if (this.#state === 'gone') return;
    this.#state = 'gone';
    this.#gone?.abort(GONE);
    this.#host.onClose(this);
  }
}

/** Nearly always the text itself; to look for what is not costs less by hand than by a pattern. */
function printable(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < FIRST_PRINTABLE || code > LAST_PRINTABLE) return text.replace(NOT_PRINTABLE, '?');
  }
  return text;
}

function unready(): void {}

const GONE = new KatamariError('cancelled', 'The caller has gone');
const NOTHING: Buffer = Buffer.alloc(0);
const NO_FIELDS: Readonly<Record<string, string>> = Object.freeze({});
const HEAD_END_BYTES: Buffer = Buffer.from(HEAD_END);
const MORE = -1;
const NOT_ORDINARY = -2;
const NOTHING_BEGUN = Number.POSITIVE_INFINITY;
/** Kept for `node:http` while answers are under way. */
const KEPT_BYTES_MAX = 65_536;
const STATUS_LINE_OK = 'HTTP/1.1 200 OK\r\n';
const FIRST_PRINTABLE = 0x20;
const LAST_PRINTABLE = 0x7e;
const NOT_PRINTABLE = /[^\x20-\x7e]/g;
