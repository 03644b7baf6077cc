// The process that fetches one shard. Copying and hashing must not block the event loop that routes calls, so it is a
// process of its own, at a lower priority. It exits when its manager does.

import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { copyShard, isIntact } from './copy-shard.ts';
import type { FetchJob, FetchReport, VerifyJob } from './job.ts';

const REPORT_EVERY_MS = 200;
const NICE = 10;

function report(what: FetchReport): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

async function run(line: string): Promise<void> {
  const job = JSON.parse(line) as FetchJob | VerifyJob;
  let reportedAtMs = 0;
  const progress = (bytesDone: number): void => {
    if (performance.now() - reportedAtMs < REPORT_EVERY_MS) return;
    reportedAtMs = performance.now();
    report({ bytesDone });
  };
  try {
    if ('verify' in job) return report({ done: await isIntact(job.verify, progress) });
    await copyShard(job, progress);
    report({ done: true });
  } catch (error) {
    report({ failed: (error as Error).message });
  }
}

setPriority(NICE);
let isStarted = false;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (isStarted) return;
  isStarted = true;
  void run(line).then(() => process.exit(0));
});
lines.on('close', () => process.exit(0));
