// One connection of a line server: splits bytes into lines, calls `answer` for each, and writes the replies in the
// order of the lines. OrderedConnection provides backpressure, reply order, time limits and the graceful close.
// Specific to lines:
//
// - A client that half-closes the connection (`printf ... | nc -N`) still gets its replies. A client that has
//   disconnected looks the same until a write fails, so its signal aborts only then.
// - A last line without a newline is never served, because it may be incomplete.
//
// Each refusal is one line. A line that is longer than `lineBytesMax`, or incomplete after `requestMs`, ends the
// connection, since the start of the next line is unknown. A line that is not UTF-8, or that arrives during a drain,
// is refused alone.
import {
  noRoom,
  OrderedConnection,
  type TimedPipelineLimits,
  type QueuedCall,
  tooMuchToSend,
} from '../../core/link/mod.ts';
import { asKatamariError, type ByteLedger, type Clock, KatamariError } from '../../core/mod.ts';

import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';

/** The client of a connection, passed to `answer`. */
export interface LineClient {
  /** For example `127.0.0.1`. */
  readonly address: string;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
}

export interface LineConnectionOptions {
  readonly limits: TimedPipelineLimits;
  readonly lineBytesMax: number;
  answer(line: string, client: LineClient): Promise<string>;
  refusal(error: KatamariError): string;
  readonly clock: Clock;
  readonly ledger: ByteLedger;
  onClose(connection: LineConnection): void;
}

/** One line in flight. */
class LineCall implements QueuedCall<LineCall> {
  next: LineCall | undefined = undefined;
  /** The reply; undefined until it is ready, '' for no reply. */
  text: string | undefined = undefined;
  /** Bytes of the line. */
  bytes = 0;

  get isReady(): boolean {
    return this.text !== undefined;
  }
}

export class LineConnection extends OrderedConnection<LineCall> implements LineClient {
  readonly address: string;
  readonly #options: LineConnectionOptions;
  /** Bytes of the incomplete line that were searched for a newline. A line may arrive in millions of chunks. */
  #searchedBytes = 0;
  #output = '';
  #gone: AbortController | undefined;

  constructor(socket: Socket, options: LineConnectionOptions) {
    const address = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    super(socket, options.limits, options.clock, options.ledger.open(address));
    this.#options = options;
    this.address = address;
    socket.setNoDelay(true);
  }

  /** A real AbortSignal, because authors of faceplates pass it to `fetch` and similar functions. */
  get signal(): AbortSignal {
    if (this.#gone === undefined) {
      this.#gone = new AbortController();
      setMaxListeners(0, this.#gone.signal);
      if (this.state === 'closed') this.#gone.abort();
    }
    return this.#gone.signal;
  }

  /** Reads no more lines. Sends the refusal after the earlier replies, then closes. */
  refuse(error: KatamariError): void {
    if (!this.isServing) return;
    this.state = 'finishing';
    this.#refuseLine(error);
  }

  protected onClosed(): void {
    this.#gone?.abort();
    this.#options.onClose(this);
  }

  protected onOverdue(): void {
    const why = `The line was not complete within ${this.limits.requestMs} ms: send it whole, with its newline`;
    this.refuse(new KatamariError('timeout', why));
  }

  protected onOverloaded(): void {
    this.refuse(noRoom(this.account, this.limits.requestMs));
  }

  protected read(bytes: Buffer): number {
    const { lineBytesMax } = this.#options;
    let at = 0;
    while (this.isServing && !this.isPaused) {
      const end = bytes.indexOf(NEWLINE, at + this.#searchedBytes);
      const lineBytes = (end < 0 ? bytes.length : end) - at;
      if (lineBytes > lineBytesMax) {
        this.refuse(new KatamariError('too_large', `The line is too long: limit is ${lineBytesMax} bytes`));
        break;
      }
      if (end < 0) {
        this.#searchedBytes = lineBytes;
        break;
      }
      this.#searchedBytes = 0;
      if (this.isLate(at)) this.#refuseLine(draining());
      else this.#serve(bytes.subarray(at, end));
      at = end + 1;
    }
    return at;
  }

  #serve(bytes: Buffer): void {
    const call = this.#accept();
    call.bytes = bytes.length;
    this.requestBytes += bytes.length;
    try {
      const line = readUtf8(bytes);
      // An empty line gets no reply.
      if (line.trim() === '') this.#settle(call, '');
      else {
        this.#options.answer(line, this).then(
          (text) => this.#answered(call, text),
          (error: unknown) => this.#fail(call, error),
        );
      }
    } catch (error) {
      this.#fail(call, error);
    }
  }

  #refuseLine(error: KatamariError): void {
    this.#fail(this.#accept(), error);
  }

  #accept(): LineCall {
    const call = new LineCall();
    this.enqueue(call);
    this.begin();
    return call;
  }

  #answered(call: LineCall, text: string): void {
    if (text.includes('\n')) this.#fail(call, severalLines());
    else if (this.account.exceeds(text.length)) this.#fail(call, tooMuchToSend(text.length, this.account));
    else this.#settle(call, text);
  }

  #fail(call: LineCall, error: unknown): void {
    this.#settle(call, this.#options.refusal(asKatamariError(error)));
  }

  #settle(call: LineCall, text: string): void {
    this.requestBytes -= call.bytes;
    call.bytes = 0;
    call.text = text;
    this.waitingBytes += text.length;
    this.ready(call);
  }

  protected writeReply({ text = '' }: LineCall): void {
    this.waitingBytes -= text.length;
    if (text !== '') this.#output += `${text}\n`;
  }

  protected writeOut(): void {
    const text = this.#output;
    this.#output = '';
    if (text !== '') this.socket.write(text);
  }
}

function readUtf8(bytes: Buffer): string {
  try {
    return utf8.decode(bytes.at(-1) === RETURN ? bytes.subarray(0, -1) : bytes);
  } catch {
    throw new KatamariError('bad_request', 'The line is not UTF-8 text');
  }
}

function severalLines(): KatamariError {
  return new KatamariError('internal', 'The reply has several lines, which the client would take for several replies');
}

function draining(): KatamariError {
  return new KatamariError('draining', 'This faceplate is stopping: send the line again on a new connection', {
    notRun: true,
  });
}

/** Keeps a byte order mark, which is part of the line. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const NEWLINE = 10;
const RETURN = 13;
