// Runs a fetch in a process of its own.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { scriptCommand } from '../../../core/mod.ts';
import { parseReport, type FetchJob } from './job.ts';

/** Fetches a shard. Rejects with an error whose message tells an operator what is wrong. */
export type Fetch = (job: FetchJob, onBytes: (bytesDone: number) => void, signal: AbortSignal) => Promise<void>;

export const fetchInProcess: Fetch = async (job, onBytes, signal) => {
  signal.throwIfAborted();
  const [program = '', ...args] = scriptCommand(MAIN);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const onAbort = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', onAbort, { once: true });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-SAID_MAX)));
  // Ignores EPIPE of a process that has ended; `close` tells why.
  child.stdin.on('error', () => undefined);
  child.stdin.write(`${JSON.stringify(job)}\n`);
  try {
    await new Promise<void>((resolve, reject) => {
      let failure: string | undefined = 'the fetch process ended without a result';
      createInterface({ input: child.stdout }).on('line', (line) => {
        const report = parseReport(line);
        if (report === undefined) return;
        if ('bytesDone' in report) onBytes(report.bytesDone);
        else failure = 'failed' in report ? report.failed : undefined;
      });
      child.on('error', (error) => reject(new Error(`The fetch process cannot be started: ${error.message}`)));
      child.on('close', (code, killedBy) => {
        if (signal.aborted) reject(signal.reason as Error);
        else if (code === 0 && failure === undefined) resolve();
        else if (code === 0) reject(new Error(failure));
        else reject(new Error(`The fetch process ended with ${killedBy ?? `status ${code}`}: ${said.trim()}`));
      });
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    child.stdin.destroy();
  }
};

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const SAID_MAX = 2_000;
