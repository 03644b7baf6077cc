// Output of a process that serves calls. Nobody may read it (a pager, a stopped terminal), its reader may be gone, its
// disk may be full: none of this may block, grow or end the process. Node writes to pipes and terminals synchronously,
// and a full pipe would block the event loop, so this queue writes with `fs.write`, which waits in another thread.
//
// The queue has a bound. Text above it is dropped and counted by lines; once output works again, a notice says how
// many lines are missing. A reader that has gone never comes back, so from then on all text is dropped.
import { fstatSync, write as writeTo } from 'node:fs';
import { Socket } from 'node:net';
import { pipeWritesBlock } from '../../../core/mod.ts';

export interface OutputQueueOptions {
  /** The file descriptor: 1 or 2. */
  readonly fd: number;
  /** Returns the text that reports dropped lines. */
  readonly notice: (lines: number) => string;
  /** Most bytes that wait, beside those being written; default 1 MiB. */
  readonly bytesMax?: number;
  /** Replaces `fs.write` in tests. */
  readonly write?: Write;
}

/** The part of `fs.write` that the queue uses. */
export type Write = (
  fd: number,
  bytes: Buffer,
  offset: number,
  length: number,
  position: null,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => void;

export class OutputQueue {
  readonly #fd: number;
  readonly #notice: (lines: number) => string;
  readonly #bytesMax: number;
  readonly #write: Write;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #isClosed = false;
  /** Lines that were dropped and not reported yet. */
  #dropped = 0;
  /** Where in the waiting text they are missing. */
  #droppedAt = 0;
  #onIdle: (() => void)[] = [];

  constructor({ fd, notice, bytesMax = 1_048_576, write = writeOf(fd) }: OutputQueueOptions) {
    this.#fd = fd;
    this.#notice = notice;
    this.#bytesMax = bytesMax;
    this.#write = write;
  }

  /** Number of lines that were dropped and not reported yet. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Writes text later, in order. Never blocks and never throws. */
  write(text: string): void {
    const bytes = Buffer.from(text);
    if (this.#isClosed || this.#waitingBytes + bytes.length > this.#bytesMax) {
      this.#drop(bytes, this.#waiting.length);
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) this.#next();
  }

  /** Resolves when all text is written or dropped, at the latest after `withinMs`. */
  async flush(withinMs: number): Promise<void> {
    if (!this.#isWriting) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, withinMs)));
    await Promise.race([new Promise<void>((resolve) => this.#onIdle.push(resolve)), late]);
    clearTimeout(timer);
  }

  #next(): void {
    const missing = this.#isClosed ? 0 : this.#dropped;
    const chunk = this.#waiting;
    if (missing > 0) chunk.splice(this.#droppedAt, 0, Buffer.from(this.#notice(missing)));
    this.#isWriting = chunk.length > 0;
    if (!this.#isWriting) {
      for (const resolve of this.#onIdle.splice(0)) resolve();
      return;
    }
    this.#dropped -= missing;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#send(Buffer.concat(chunk), 0, missing);
  }

  /** @param missing dropped lines that the text reports */
  #send(bytes: Buffer, from: number, missing: number): void {
    this.#write(this.#fd, bytes, from, bytes.length - from, null, (error, written) => {
      const at = from + (error === null ? written : 0);
      if (error === null) {
        if (at < bytes.length) this.#send(bytes, at, missing);
        else this.#next();
        return;
      }
      if (error.code === 'EAGAIN') {
        // Another program has made this pipe non-blocking, and it is full.
        setTimeout(() => this.#send(bytes, at, missing), RETRY_MS).unref();
        return;
      }
      // The lost text is older than all that waits.
      this.#drop(bytes.subarray(at), 0);
      this.#dropped += missing;
      if (GONE.has(error.code ?? '')) {
        this.#isClosed = true;
        for (const waiting of this.#waiting.splice(0)) this.#drop(waiting, 0);
        this.#next();
        return;
      }
      // A full disk, for example: try again later, with what has come until then.
      setTimeout(() => this.#next(), PAUSE_MS).unref();
    });
  }

  #drop(bytes: Buffer, at: number): void {
    if (this.#dropped === 0) this.#droppedAt = at;
    let lines = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, end + 1)) lines++;
    this.#dropped += Math.max(1, lines);
  }
}

/** Returns `fs.write`, or a replacement where it would block. */
function writeOf(fd: number): Write {
  if (!pipeWritesBlock()) return writeTo;
  const kind = fstatSync(fd);
  if (!kind.isFIFO() && !kind.isSocket()) return writeTo;
  const socket = new Socket({ fd, readable: false, writable: true });
  // Each write gets the error too.
  socket.on('error', () => undefined);
  socket.unref();
  return (_fd, bytes, offset, length, _position, done) => {
    socket.write(bytes.subarray(offset, offset + length), (error) =>
      done(error ?? null, error === undefined || error === null ? length : 0),
    );
  };
}

/** The reader has gone for good. */
const GONE: ReadonlySet<string> = new Set(['EPIPE', 'EIO', 'EBADF', 'ECONNRESET', 'ENXIO', 'ERR_STREAM_DESTROYED']);
const NEWLINE = 10;
const RETRY_MS = 50;
const PAUSE_MS = 1_000;
