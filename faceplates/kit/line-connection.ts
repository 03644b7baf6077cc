// One connection of a line server: bytes to lines, lines to whoever answers them, answers back in the order of the lines. Talks to a
// socket, and to its server through LineConnectionOptions.
import { asKatamariError, KatamariError, type FaceplateLimits } from '../../core/mod.ts';

//
// What it refuses, each with one line that says so: a line longer than `lineBytesMax`, half a line that is not finished within `requestMs`
// (both end the connection, since nobody knows where the next line begins), text that is not UTF-8, lines that come while it drains.
// At most `pipelineMax` lines are under way, and none is taken while UNREAD_BYTES_MAX of answers wait for their reader; then
// the socket is not read. A last line without its newline is never served: it may be half of one. A client that closes its side (as
// `printf ... | nc -N` does) still gets its answers; that it has gone altogether is known when they cannot be written.

import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';

/** The other side, as those who answer its lines see it. */
export interface LineClient {
  /** For example `127.0.0.1`. */
  readonly address: string;
  /** Aborted when it has gone. */
  readonly signal: AbortSignal;
}

export interface LineConnectionOptions {
  readonly limits: Pick<FaceplateLimits, 'idleMs' | 'requestMs' | 'pipelineMax'>;
  readonly lineBytesMax: number;
  answer(line: string, client: LineClient): Promise<string>;
  refusal(error: KatamariError): string;
  readonly nowMs: () => number;
  onClose(connection: LineConnection): void;
}

/** A line as it came, or why what came is none. */
type LineCall = Buffer | KatamariError;

export class LineConnection implements LineClient {
  readonly address: string;
  readonly #socket: Socket;
  readonly #options: LineConnectionOptions;
  readonly #gone = new AbortController();
  /** Of the line that is not complete yet: one buffer that grows, since a line may come in millions of pieces. */
  #part: Buffer = NOTHING;
  #partBytes = 0;
  #partSinceMs = 0;
  /** What was cut and is not under way yet: at most what one read of the socket held. */
  readonly #items: LineCall[] = [];
  #underWay = 0;
  /** Settles when the last answer was written. */
  #written: Promise<void> = Promise.resolve();
  #lastMs: number;
  /** open: lines are taken. draining: new ones are refused. leaving: none is looked at, the connection ends with the last answer. */
  #state: 'open' | 'draining' | 'leaving' = 'open';
  #swallowed = 0;

  constructor(socket: Socket, options: LineConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.address = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    this.#lastMs = options.nowMs();
    setMaxListeners(0, this.signal);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('end', () => this.#leave());
    socket.on('drain', () => this.#serve());
    // The end of it is told by 'close'.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#state = 'leaving';
      this.#gone.abort();
      options.onClose(this);
    });
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Says why, and ends. */
  refuse(error: KatamariError): void {
    this.#items.push(error);
    this.#serve();
  }

  /** Nothing new is taken; what came before is answered. */
  drain(): void {
    if (this.#state === 'open') this.#state = 'draining';
    if (this.#items.length === 0 && this.#underWay === 0) this.#leave();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Called now and then: ends what has taken too long. */
  sweep(nowMs: number): void {
    const { idleMs, requestMs } = this.#options.limits;
    const isWaitingForUs = this.#items.length > 0 || this.#underWay > 0;
    if (this.#partBytes > 0 && !isWaitingForUs && nowMs - this.#partSinceMs > requestMs) {
      this.#giveUp(
        new KatamariError(
          'timeout',
          `The line was not complete within ${requestMs} ms: send it whole, with its newline`,
        ),
      );
    } else if (this.#underWay === 0 && nowMs - this.#lastMs > idleMs) {
      this.#socket.destroy();
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'leaving') {
      this.#swallow(chunk);
      return;
    }
    this.#lastMs = this.#options.nowMs();
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      if (!this.#keep(chunk.subarray(from, end))) return;
      this.#items.push(this.#state === 'draining' ? draining() : this.#part.subarray(0, this.#partBytes));
      this.#forget();
      from = end + 1;
    }
    if (from < chunk.length) {
      if (this.#partBytes === 0) this.#partSinceMs = this.#lastMs;
      if (!this.#keep(chunk.subarray(from))) return;
    }
    this.#serve();
  }

  /** False when the line has become too long. */
  #keep(piece: Buffer): boolean {
    const { lineBytesMax } = this.#options;
    const bytes = this.#partBytes + piece.length;
    if (bytes > lineBytesMax) {
      this.#giveUp(new KatamariError('too_large', `The line is too long: limit is ${lineBytesMax} bytes`));
      return false;
    }
    if (bytes > this.#part.length) {
      const grown = Buffer.allocUnsafe(this.#partBytes === 0 ? bytes : Math.min(bytes * 2, lineBytesMax));
      this.#part.copy(grown, 0, 0, this.#partBytes);
      this.#part = grown;
    }
    piece.copy(this.#part, this.#partBytes);
    this.#partBytes = bytes;
    return true;
  }

  /** The buffer is the line's now. */
  #forget(): void {
    this.#part = NOTHING;
    this.#partBytes = 0;
  }

  /** Nobody knows where the next line begins: answers what came before, says why, ends. */
  #giveUp(error: KatamariError): void {
    this.#forget();
    this.refuse(error);
  }

  /** Puts lines under way, in order, as long as there is room for their answers; reads on only when all of them are. */
  #serve(): void {
    const { pipelineMax } = this.#options.limits;
    const socket = this.#socket;
    while (this.#items.length > 0 && this.#underWay < pipelineMax && socket.writableLength <= UNREAD_BYTES_MAX) {
      this.#take(this.#items.shift() as LineCall);
    }
    if (this.#items.length > 0) socket.pause();
    else if (socket.isPaused()) {
      this.#partSinceMs = this.#options.nowMs();
      socket.resume();
    }
    if (this.#items.length === 0 && this.#underWay === 0 && this.#state !== 'open') this.#end();
  }

  #take(item: LineCall): void {
    const answer = item instanceof KatamariError ? Promise.resolve(this.#options.refusal(item)) : this.#answer(item);
    // After a refusal of the connection itself nothing more is read from it.
    if (item instanceof KatamariError) this.#state = 'leaving';
    this.#underWay++;
    this.#written = this.#written.then(async () => {
      const text = await answer;
      if (text !== '') this.#socket.write(`${text}\n`, () => (this.#lastMs = this.#options.nowMs()));
      this.#underWay--;
      this.#serve();
    });
  }

  /** '' for an empty line, which asks for nothing. Never rejects. */
  async #answer(bytes: Buffer): Promise<string> {
    try {
      const line = readUtf8(bytes);
      if (line.trim() === '') return '';
      const text = await this.#options.answer(line, this);
      if (!text.includes('\n')) return text;
      throw new KatamariError('internal', 'The answer has several lines, which would be taken for several answers');
    } catch (thrown) {
      return this.#options.refusal(asKatamariError(thrown));
    }
  }

  #leave(): void {
    if (this.#socket.destroyed) return;
    this.#state = 'leaving';
    this.#serve();
  }

  /** A socket closed on unread bytes loses what its client has not read yet: so it is half closed, and read for a while. */
  #end(): void {
    const socket = this.#socket;
    if (socket.writableEnded || socket.destroyed) return;
    this.#state = 'leaving';
    socket.end();
    if (socket.readableEnded) return;
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => clearTimeout(timer));
    socket.resume();
  }

  #swallow(chunk: Buffer): void {
    this.#swallowed += chunk.length;
    if (this.#swallowed > SWALLOW_BYTES_MAX) this.#socket.destroy();
  }
}

function readUtf8(bytes: Buffer): string {
  try {
    return utf8.decode(bytes.at(-1) === RETURN ? bytes.subarray(0, -1) : bytes);
  } catch {
    throw new KatamariError('bad_request', 'The line is not UTF-8 text');
  }
}

function draining(): KatamariError {
  return new KatamariError('draining', 'This faceplate is stopping: send the line again on a new connection', {
    notRun: true,
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true });
const NOTHING = Buffer.alloc(0);
const NEWLINE = 10;
const RETURN = 13;
/** Answers that a client may leave unread before no more of its lines are taken. */
const UNREAD_BYTES_MAX = 1_048_576;
const SWALLOW_BYTES_MAX = 1_048_576;
/** What a client has to read the last answer and close its side. */
const LINGER_MS = 500;
