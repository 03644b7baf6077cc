// Runs a fetch in a process of its own.

import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { scriptCommand } from '../../../core/mod.ts';
import { whySourceRefused } from '../allowed-sources.ts';
import {
  parseReport,
  type FetchJob,
  type FetchReport,
  type SourceJob,
  type SourceListing,
  type VerifyJob,
} from './job.ts';

/** Fetches a shard. Rejects with an error whose message tells an operator what is wrong. */
export type Fetch = (job: FetchJob, onBytes: (bytesDone: number) => void, signal: AbortSignal) => Promise<void>;

/** Whether the files in the folder of a shard are as they were fetched. */
export type Verify = (folder: string, signal: AbortSignal) => Promise<boolean>;

/** Returns a fetch that reads only the sources below these URL prefixes. */
export function fetchFrom(allowed: readonly string[]): Fetch {
  return async (job, onBytes, signal) => {
    await refuseOthers(job.source, allowed);
    await runJob({ ...job, allowed }, onBytes, signal);
  };
}

export const verifyInProcess: Verify = async (folder, signal) => {
  const result = await runJob({ verify: folder }, () => undefined, signal);
  return 'done' in result && result.done;
};

/**
 * Lists the shards of a source, within a minute.
 * @param allowed URL prefixes of the sources that may be read
 * @throws Error whose message tells an operator what is wrong with the source
 */
export async function inspectSource(
  source: string,
  allowed: readonly string[],
  signal: AbortSignal,
): Promise<SourceListing> {
  await refuseOthers(source, allowed);
  const late = new Error(
    `the source did not list its shards within ${INSPECT_MS / 1_000} s; see whether it can be read`,
  );
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(late), INSPECT_MS);
  try {
    const job: SourceJob = { inspect: source, allowed };
    const result = await runJob(job, () => undefined, AbortSignal.any([signal, timeout.signal]));
    if ('listing' in result) return result.listing;
    throw new Error('the fetch process ended without a list');
  } finally {
    clearTimeout(timer);
  }
}

async function refuseOthers(source: string, allowed: readonly string[]): Promise<void> {
  const why = await whySourceRefused(source, allowed);
  if (why !== undefined) throw new Error(why);
}

type JobResult = Exclude<FetchReport, { readonly bytesDone: number } | { readonly failed: string }>;

async function runJob(
  job: SourceJob | VerifyJob,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
): Promise<JobResult> {
  signal.throwIfAborted();
  const [program = '', ...args] = scriptCommand(MAIN);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: fetchEnv() });
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const onStall = (): void =>
    stop.abort(new Error(`the source has sent nothing for ${STALL_MS / 1_000} s; see whether it can be read`));
  let stall = setTimeout(onStall, STALL_MS);
  const onProgress = (bytesDone: number): void => {
    clearTimeout(stall);
    stall = setTimeout(onStall, STALL_MS);
    onBytes(bytesDone);
  };
  try {
    return await resultOf(child, job, onProgress, stop.signal);
  } finally {
    clearTimeout(stall);
    signal.removeEventListener('abort', onAbort);
    child.kill('SIGKILL');
    child.stdin?.destroy();
  }
}

function resultOf(
  child: Pick<ChildProcess, 'on' | 'stdin' | 'stdout' | 'stderr'>,
  job: SourceJob | VerifyJob,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
): Promise<JobResult> {
  return new Promise((resolve, reject) => {
    let result: JobResult | undefined;
    let failure = 'the fetch process ended without a result';
    let said = '';
    child.on('error', (error) => reject(new Error(`The fetch process cannot be started: ${error.message}`)));
    // A process that hangs on its disk ends when the disk answers: nobody waits for it.
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    child.on('close', (code, killedBy) => {
      if (code !== 0) reject(new Error(`The fetch process ended with ${killedBy ?? `status ${code}`}: ${said.trim()}`));
      else if (result === undefined) reject(new Error(failure));
      else resolve(result);
    });
    // Without file descriptors there are no streams, and `error` follows.
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-SAID_MAX)));
    if (child.stdout !== null) {
      let unread = 0;
      child.stdout.on('data', (chunk: Buffer) => {
        unread = (chunk.includes(0x0a) ? 0 : unread) + chunk.length;
        if (unread > LINE_BYTES_MAX)
          reject(new Error(`the fetch process wrote a line of more than ${LINE_BYTES_MAX} bytes`));
      });
      createInterface({ input: child.stdout }).on('line', (line) => {
        const report = parseReport(line);
        if (report === undefined) return;
        if ('bytesDone' in report) onBytes(report.bytesDone);
        else if ('failed' in report) failure = report.failed;
        else result = report;
      });
    }
    // Ignores EPIPE of a process that has ended; `close` tells why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.write(`${JSON.stringify(job)}\n`);
  });
}

/**
 * The environment of this process without the tokens and settings of the mesh. Credentials of sources stay: they reach
 * the fetch process in no other way.
 */
function fetchEnv(): NodeJS.ProcessEnv {
  const isKept = (name: string): boolean => !/^(KATAMARI|CONSUL)_/.test(name) || name === 'KATAMARI_FAMILY';
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isKept(name)));
}

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const SAID_MAX = 2_000;
/** Room for a list of 4,000 shards. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;
/** A fetch that makes no progress for so long is ended. */
const STALL_MS = 120_000;
const INSPECT_MS = 60_000;
