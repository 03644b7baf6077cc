// Fetches and verifies shards in processes of their own, and keeps all fetches together to one rate. A process that has
// nothing to do for some seconds ends.

import { whySourceRefused } from '../allowed-sources.ts';
import { FetchWorker, SilentEnd } from './fetch-worker.ts';
import type { FetchJob, JobResult, SourceJob, SourceListing, VerifyJob } from './job.ts';

/** Fetches a shard. Rejects with an error whose message tells an operator what is wrong. */
export type Fetch = (
  job: Omit<FetchJob, 'bytesPerS'>,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
) => Promise<void>;

/**
 * Looks for damage in the files in the folder of a shard. Returns what is wrong; '' when nothing is. Rejects when it
 * cannot be told.
 * @param pace `at_once`; or `in_background`, at the rate of fetches, and not while one runs
 */
export type Verify = (
  folder: string,
  pace: 'at_once' | 'in_background',
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
) => Promise<string>;

export class Fetcher {
  readonly #allowed: readonly string[];
  readonly #bytesPerS: number;
  readonly #idleMs: number;
  /** Every process that has not been ended. There are as many as jobs run at a time, which the keeper limits. */
  readonly #workers = new Set<FetchWorker>();
  /** Processes without a job, and the timers of their ends. */
  readonly #idle = new Map<FetchWorker, NodeJS.Timeout>();
  /** Processes that share the rate. */
  readonly #fetching = new Set<FetchWorker>();
  /** Processes that check files in the background. */
  readonly #checking = new Set<FetchWorker>();
  #isClosed = false;

  /**
   * @param allowed URL prefixes of the sources that may be read
   * @param bytesPerS limit of all fetches together; 0 for none
   * @param idleMs a process without a job ends after this time
   */
  constructor(allowed: readonly string[], bytesPerS = 0, idleMs: number = IDLE_MS) {
    this.#allowed = allowed;
    this.#bytesPerS = bytesPerS;
    this.#idleMs = idleMs;
  }

  readonly fetch: Fetch = async (job, onBytes, signal) => {
    await refuseOthers(job.source, this.#allowed);
    const start = (worker: FetchWorker): SourceJob => {
      this.#shareRate(() => this.#fetching.add(worker), worker);
      return { ...job, bytesPerS: this.#share, allowed: this.#allowed };
    };
    await this.#run(start, onBytes, signal);
  };

  readonly verify: Verify = async (folder, pace, onBytes, signal) => {
    const start = (worker: FetchWorker): VerifyJob => {
      if (pace === 'at_once') return { verify: folder, bytesPerS: 0 };
      this.#checking.add(worker);
      return { verify: folder, bytesPerS: this.#checkRate };
    };
    const result = await this.#run(start, onBytes, signal);
    if ('damage' in result) return result.damage;
    throw new Error('the fetch process ended without a result of the check');
  };

  /** Ends all processes and their jobs. */
  close(): void {
    this.#isClosed = true;
    for (const worker of this.#workers) this.#end(worker);
  }

  async #run(
    start: (worker: FetchWorker) => SourceJob | VerifyJob,
    onBytes: (bytesDone: number) => void,
    signal: AbortSignal,
  ): Promise<JobResult> {
    signal.throwIfAborted();
    const kept = this.#takeIdle();
    try {
      if (kept !== undefined) return await this.#runIn(kept, start, onBytes, signal);
    } catch (error) {
      // It may have been killed while it was idle.
      if (!(error instanceof SilentEnd)) throw error;
    }
    signal.throwIfAborted();
    if (this.#isClosed) throw new Error(CLOSED);
    const worker = new FetchWorker();
    this.#workers.add(worker);
    return await this.#runIn(worker, start, onBytes, signal);
  }

  async #runIn(
    worker: FetchWorker,
    start: (worker: FetchWorker) => SourceJob | VerifyJob,
    onBytes: (bytesDone: number) => void,
    signal: AbortSignal,
  ): Promise<JobResult> {
    try {
      return await worker.run(() => start(worker), onBytes, signal);
    } finally {
      this.#checking.delete(worker);
      this.#shareRate(() => this.#fetching.delete(worker));
      if (worker.isReady && !this.#isClosed) this.#keep(worker);
      else this.#end(worker);
    }
  }

  #takeIdle(): FetchWorker | undefined {
    for (const [worker, timer] of this.#idle) {
      clearTimeout(timer);
      this.#idle.delete(worker);
      if (worker.isReady) return worker;
      this.#end(worker);
    }
    return undefined;
  }

  #keep(worker: FetchWorker): void {
    const timer = setTimeout(() => this.#end(worker), this.#idleMs);
    timer.unref();
    this.#idle.set(worker, timer);
  }

  #end(worker: FetchWorker): void {
    clearTimeout(this.#idle.get(worker));
    this.#idle.delete(worker);
    this.#workers.delete(worker);
    worker.kill(new Error(CLOSED));
  }

  /** Bytes per second for each fetch that runs. */
  get #share(): number {
    return Math.ceil(this.#bytesPerS / Math.max(1, this.#fetching.size));
  }

  /** Bytes per second of a check in the background. It pauses while users wait for a fetch. */
  get #checkRate(): number {
    if (this.#fetching.size > 0) return PAUSED_BYTES_PER_S;
    return this.#bytesPerS === 0 ? CHECK_BYTES_PER_S : this.#bytesPerS;
  }

  /** Sends the running fetches and checks their rates, if they have changed. A fetch that starts has it already. */
  #shareRate(change: () => void, starting?: FetchWorker): void {
    const before = this.#share;
    const checksBefore = this.#checkRate;
    change();
    if (this.#share !== before)
      for (const worker of this.#fetching) if (worker !== starting) worker.changeRate(this.#share);
    if (this.#checkRate !== checksBefore) for (const worker of this.#checking) worker.changeRate(this.#checkRate);
  }
}

/**
 * Lists the shards of a source in a process of its own, within a minute.
 * @param allowed URL prefixes of the sources that may be read
 * @throws Error whose message tells an operator what is wrong with the source
 */
export async function inspectSource(
  source: string,
  allowed: readonly string[],
  signal: AbortSignal,
): Promise<SourceListing> {
  await refuseOthers(source, allowed);
  signal.throwIfAborted();
  const late = new Error(
    `the source did not list its shards within ${INSPECT_MS / 1_000} s; see whether it can be read`,
  );
  const worker = new FetchWorker();
  const timer = setTimeout(() => worker.kill(late), INSPECT_MS);
  try {
    const result = await worker.run(
      () => ({ inspect: source, allowed }),
      () => undefined,
      signal,
    );
    if ('listing' in result) return result.listing;
    throw new Error('the fetch process ended without a list');
  } finally {
    clearTimeout(timer);
    worker.kill(late);
  }
}

async function refuseOthers(source: string, allowed: readonly string[]): Promise<void> {
  const why = await whySourceRefused(source, allowed);
  if (why !== undefined) throw new Error(why);
}

const CLOSED = 'this manager is stopping';
const IDLE_MS = 10_000;
/** Rate of checks in the background where fetches have no limit. */
const CHECK_BYTES_PER_S = 50_000_000;
/** A check at this rate reads a chunk, and waits for the next rate. */
const PAUSED_BYTES_PER_S = 1;
const INSPECT_MS = 60_000;
