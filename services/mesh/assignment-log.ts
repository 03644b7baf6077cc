// Writes which version each call of an experiment got, and how it ended, as lines of JSON: for people's own analysis.
// Only services with a route have lines. Lines wait in memory for a moment and are then written together. What is above
// the limit is dropped and counted, so a full disk or a slow reader delays no call.

import { createHash } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Clock } from '../../core/mod.ts';
import { pointOf } from './version-split.ts';

export interface AssignmentLogOptions {
  /** File to append to; `-` for standard output. */
  readonly file: string;
  /** Percentage of the calls that have a line, 0 to 100. Of calls with a sticky key, those of as many keys. */
  readonly share: number;
  readonly clock: Clock;
  /** Called when lines cannot be written, once until they can be written again. */
  readonly onFailure: (why: string) => void;
}

/** One call of a service that has a route. */
export interface Assignment {
  readonly service: string;
  readonly method: string;
  /** Name by which the sticky keys of the service are spread. */
  readonly experiment: string;
  /** The sticky key; '' for none. */
  readonly key: string;
  /** '' if the call got no version. */
  readonly version: string;
  /** The rule of the route that chose it; '' for the weights. */
  readonly rule: string;
  /** `ok`, `exception`, or the code of an error. */
  readonly outcome: string;
  readonly durationMs: number;
}

export class AssignmentLog {
  readonly #options: AssignmentLogOptions;
  #stream: WriteStream | undefined;
  #lines: string[] = [];
  /** Characters of the lines that wait. */
  #size = 0;
  #stopTimer: (() => void) | undefined;
  #retryAtMs = 0;
  #hasFailed = false;
  /** Percentages of calls without a key that had no line. At 100 the next one has one. */
  #passed = 0;
  #written = 0;
  #dropped = 0;

  constructor(options: AssignmentLogOptions) {
    this.#options = options;
  }

  /** Lines so far: those given to the system, and those that were dropped. */
  get counts(): { readonly written: number; readonly dropped: number } {
    return { written: this.#written, dropped: this.#dropped };
  }

  add(assignment: Assignment): void {
    if (!this.#takes(assignment.key)) return;
    const waiting = this.#size + (this.#stream?.writableLength ?? 0);
    if (waiting >= WAITING_CHARS_MAX) {
      this.#dropped++;
      return;
    }
    const line = lineOf(assignment);
    this.#lines.push(line);
    this.#size += line.length;
    this.#stopTimer ??= this.#options.clock.after(BATCH_MS, () => this.#flush());
  }

  /** Writes what waits and closes the file; gives up after CLOSE_MS. */
  async close(): Promise<void> {
    this.#flush();
    const stream = this.#stream;
    if (stream === undefined) return;
    await new Promise<void>((resolve) => {
      const stop = this.#options.clock.after(CLOSE_MS, resolve);
      const end = (): void => {
        stop();
        resolve();
      };
      stream.once('error', end);
      stream.end(end);
    });
  }

  /** Whether a call has a line. All calls of a key have one, or none. */
  #takes(key: string): boolean {
    const { share } = this.#options;
    if (share >= 100) return true;
    if (key !== '') return pointOf(SALT, key) * 100 < share;
    this.#passed += share;
    if (this.#passed < 100) return false;
    this.#passed -= 100;
    return true;
  }

  #flush(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const lines = this.#lines;
    if (lines.length === 0) return;
    this.#lines = [];
    this.#size = 0;
    const stream = this.#open();
    if (stream === undefined) this.#dropped += lines.length;
    else {
      stream.write(lines.join(''), (error) => {
        if (error === null || error === undefined) {
          this.#written += lines.length;
          this.#hasFailed = false;
        } else this.#dropped += lines.length;
      });
    }
  }

  /** The open file; undefined for a while after it could not be written. */
  #open(): WriteStream | undefined {
    const { file, clock, onFailure } = this.#options;
    if (this.#stream !== undefined) return this.#stream;
    if (clock.nowMs() < this.#retryAtMs) return undefined;
    // Not process.stdout, which blocks the process while nobody reads a pipe.
    const stream = file === '-' ? createWriteStream('', { fd: 1, autoClose: false }) : createWriteStream(file, APPEND);
    stream.on('error', (error) => {
      if (this.#stream === stream) this.#stream = undefined;
      this.#retryAtMs = clock.nowMs() + RETRY_MS;
      if (!this.#hasFailed) onFailure(error.message);
      this.#hasFailed = true;
    });
    this.#stream = stream;
    return stream;
  }
}

function lineOf({ key, durationMs, ...assignment }: Assignment): string {
  const line = {
    time: new Date().toISOString(),
    ...assignment,
    key: key === '' ? '' : keyHash(key),
    ms: Number(durationMs.toFixed(3)),
  };
  return `${JSON.stringify(line)}\n`;
}

/** The first 16 hexadecimal digits of the SHA-256 of a key: keys may be names of people. */
function keyHash(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 16);
}

const APPEND = { flags: 'a', mode: 0o600 };
const BATCH_MS = 100;
const WAITING_CHARS_MAX: number = 4 * 1024 * 1024;
const RETRY_MS = 5_000;
const CLOSE_MS = 1_000;
const SALT = 'assignment log';
