// Runs a fetch in a process of its own.

import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { scriptCommand } from '../../../core/mod.ts';
import { parseReport, type FetchJob, type VerifyJob } from './job.ts';

/** Fetches a shard. Rejects with an error whose message tells an operator what is wrong. */
export type Fetch = (job: FetchJob, onBytes: (bytesDone: number) => void, signal: AbortSignal) => Promise<void>;

/** Whether the files in the folder of a shard are as they were fetched. */
export type Verify = (folder: string, signal: AbortSignal) => Promise<boolean>;

export const fetchInProcess: Fetch = async (job, onBytes, signal) => {
  await runJob(job, onBytes, signal);
};

export const verifyInProcess: Verify = (folder, signal) => runJob({ verify: folder }, () => undefined, signal);

/** Returns the result of the job. */
async function runJob(
  job: FetchJob | VerifyJob,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
): Promise<boolean> {
  signal.throwIfAborted();
  const [program = '', ...args] = scriptCommand(MAIN);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
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
  job: FetchJob | VerifyJob,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let result: boolean | undefined;
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
      createInterface({ input: child.stdout }).on('line', (line) => {
        const report = parseReport(line);
        if (report === undefined) return;
        if ('bytesDone' in report) onBytes(report.bytesDone);
        else if ('failed' in report) failure = report.failed;
        else result = report.done;
      });
    }
    // Ignores EPIPE of a process that has ended; `close` tells why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.write(`${JSON.stringify(job)}\n`);
  });
}

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const SAID_MAX = 2_000;
/** A fetch that makes no progress for so long is ended. */
const STALL_MS = 120_000;
