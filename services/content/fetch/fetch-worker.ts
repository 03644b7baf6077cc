// A fetch process, as its manager sees it. It runs one job at a time and is kept for the next one. An abort kills it:
// a read that hangs cannot be stopped in another way.

import { spawn, type ChildProcess } from 'node:child_process';
import { getPriority, setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { scriptCommand } from '../../../core/mod.ts';
import {
  parseReport,
  type FetchOrder,
  type FetchReport,
  type JobResult,
  type SourceJob,
  type VerifyJob,
} from './job.ts';

interface RunningJob {
  /** Returns the job when the process is ready for it. */
  readonly makeJob: () => SourceJob | VerifyJob;
  readonly onBytes: (bytesDone: number) => void;
  /** Ends the job once. */
  readonly resolve: (result: JobResult) => void;
  readonly reject: (reason: Error) => void;
  isSent: boolean;
  hasReport: boolean;
  result: JobResult | undefined;
  failure: string;
}

/** The process ended without a report on its job. It may have ended before it got the job. */
export class SilentEnd extends Error {
  override readonly name = 'SilentEnd';
}

export class FetchWorker {
  readonly #child: Pick<ChildProcess, 'on' | 'kill' | 'stdin' | 'stdout' | 'stderr'>;
  #job: RunningJob | undefined;
  #isReady = false;
  #hasEnded = false;
  /** The end of what the process has written to stderr during this job. */
  #said = '';
  /** Bytes on stdout since the last end of a line. */
  #unread = 0;

  constructor() {
    const [program = '', ...args] = scriptCommand(MAIN);
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: fetchEnv() });
    this.#child = child;
    lowerPriority(child.pid);
    this.#child.on('error', (error) => this.kill(new Error(`The fetch process cannot be started: ${error.message}`)));
    this.#child.on('close', (code, killedBy) => this.#onClose(killedBy ?? `status ${code}`, code === 0));
    // Without file descriptors there are no streams, and `error` follows.
    const { stdin, stdout, stderr } = this.#child;
    stderr?.setEncoding('utf8').on('data', (text: string) => (this.#said = `${this.#said}${text}`.slice(-SAID_MAX)));
    // Ignores EPIPE of a process that has ended; `close` tells why.
    stdin?.on('error', () => undefined);
    if (stdout === null) return;
    stdout.on('data', (chunk: Buffer) => this.#countUnread(chunk));
    createInterface({ input: stdout }).on('line', (line) => this.#onReport(parseReport(line)));
  }

  /** Whether it can take a job now: it is ready, and nothing of an earlier job is left. */
  get isReady(): boolean {
    return this.#isReady && !this.#hasEnded;
  }

  /**
   * Runs a job; no other may be running. The process is killed when the signal is aborted, or without progress for two
   * minutes.
   * @param makeJob called when the process is ready for the job
   */
  async run(
    makeJob: () => SourceJob | VerifyJob,
    onBytes: (bytesDone: number) => void,
    signal: AbortSignal,
  ): Promise<JobResult> {
    const onAbort = (): void => this.kill(signal.reason as Error);
    const onStall = (): void =>
      this.kill(
        new Error(
          `no bytes have come for ${STALL_MS / 1_000} s; see whether the source, and the disk of this manager, can be read`,
        ),
      );
    let stall = setTimeout(onStall, STALL_MS);
    signal.addEventListener('abort', onAbort, { once: true });
    const onProgress = (bytesDone: number): void => {
      clearTimeout(stall);
      stall = setTimeout(onStall, STALL_MS);
      onBytes(bytesDone);
    };
    try {
      return await new Promise<JobResult>((resolve, reject) => {
        const failure = 'the fetch process ended without a result';
        this.#job = {
          makeJob,
          onBytes: onProgress,
          resolve,
          reject,
          isSent: false,
          hasReport: false,
          result: undefined,
          failure,
        };
        this.#said = '';
        if (signal.aborted) onAbort();
        else if (this.#hasEnded) reject(new Error(failure));
        else if (this.#isReady) this.#send();
      });
    } finally {
      clearTimeout(stall);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Changes the rate of the fetch or check that runs. @param bytesPerS 0 for no limit */
  changeRate(bytesPerS: number): void {
    this.#write({ newBytesPerS: bytesPerS });
  }

  /** Ends the process, and the job that runs with this reason. */
  kill(reason: Error): void {
    this.#hasEnded = true;
    // A process that hangs in a disk operation ends when the disk answers. Nothing waits for it.
    this.#takeJob()?.reject(reason);
    this.#child.kill('SIGKILL');
    this.#child.stdin?.destroy();
  }

  #send(): void {
    if (this.#job === undefined) return;
    this.#job.isSent = true;
    this.#isReady = false;
    this.#write(this.#job.makeJob());
  }

  #write(order: FetchOrder): void {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  #onReport(report: FetchReport | undefined): void {
    // Output of a killed process is ignored.
    if (report === undefined || this.#hasEnded) return;
    if ('isReady' in report) return this.#onReady();
    if (this.#job === undefined) return;
    this.#job.hasReport = true;
    if ('bytesDone' in report) this.#job.onBytes(report.bytesDone);
    else if ('failed' in report) this.#job.failure = report.failed;
    else this.#job.result = report;
  }

  #onReady(): void {
    this.#isReady = true;
    if (this.#job?.isSent === false) this.#send();
    else this.#settle();
  }

  /** A process that needs much memory ends after its job instead of being ready again. */
  #onClose(how: string, isOrderly: boolean): void {
    this.#hasEnded = true;
    if (isOrderly) return this.#settle();
    const job = this.#takeJob();
    const ErrorClass = job?.hasReport === true ? Error : SilentEnd;
    job?.reject(new ErrorClass(`The fetch process ended with ${how}: ${this.#said.trim()}`));
  }

  #settle(): void {
    const job = this.#takeJob();
    if (job?.result === undefined) job?.reject(new Error(job.failure));
    else job.resolve(job.result);
  }

  #takeJob(): RunningJob | undefined {
    const job = this.#job;
    this.#job = undefined;
    return job;
  }

  #countUnread(chunk: Buffer): void {
    this.#unread = chunk.includes(0x0a) ? chunk.length - 1 - chunk.lastIndexOf(0x0a) : this.#unread + chunk.length;
    if (this.#unread > LINE_BYTES_MAX)
      this.kill(new Error(`the fetch process wrote a line of more than ${LINE_BYTES_MAX} bytes`));
  }
}

/**
 * The environment of this process without the tokens and settings of the mesh. Credentials of sources stay: they reach
 * the fetch process in no other way.
 */
function fetchEnv(): NodeJS.ProcessEnv {
  const isKept = (name: string): boolean => !/^(KATAMARI|CONSUL)_/.test(name) || name === 'KATAMARI_FAMILY';
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isKept(name)));
}

/**
 * Lets calls go before a fetch. It happens here and not in the process, because the start of a process takes more time
 * than the fetch of a small shard.
 */
function lowerPriority(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    setPriority(pid, Math.max(getPriority(), NICE));
  } catch {
    // The process has ended; `close` tells why.
  }
}

const NICE = 10;
const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const SAID_MAX = 2_000;
/** Room for a list of 4,000 shards. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;
/** A fetch that makes no progress for so long is ended. */
const STALL_MS = 120_000;
