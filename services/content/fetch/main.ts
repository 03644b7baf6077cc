// The process that fetches one shard, or lists a source. Copying and hashing must not block the event loop that routes
// calls, so it is a process of its own, at a lower priority. It exits when its manager does.

import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { whySourceRefused } from '../allowed-sources.ts';
import { copyShard, isIntact } from './copy-shard.ts';
import { inspect } from './inspect.ts';
import type { FetchReport, SourceJob, VerifyJob } from './job.ts';
import { SourceError } from './shard-source.ts';
import { sourceFor } from './sources/choose.ts';

const REPORT_EVERY_MS = 200;
const NICE = 10;
/** A listing has millions of names at most, and files pass in chunks. */
const MEMORY_BYTES_MAX = 1024 * 1024 * 1024;
const MEMORY_EVERY_MS = 250;

function report(what: FetchReport): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(what)}\n`, () => resolve()));
}

async function resultOf(job: SourceJob | VerifyJob): Promise<FetchReport> {
  let reportedAtMs = 0;
  const progress = (bytesDone: number): void => {
    if (performance.now() - reportedAtMs < REPORT_EVERY_MS) return;
    reportedAtMs = performance.now();
    void report({ bytesDone });
  };
  if ('verify' in job) return { done: await isIntact(job.verify, progress) };
  const url = 'inspect' in job ? job.inspect : job.source;
  const why = await whySourceRefused(url, job.allowed);
  if (why !== undefined) throw new SourceError(why);
  const source = sourceFor(url, job.allowed);
  if ('inspect' in job) return { listing: await inspect(url, source) };
  await copyShard(job, source, progress);
  return { done: true };
}

async function run(line: string): Promise<void> {
  await report(
    await resultOf(JSON.parse(line) as SourceJob | VerifyJob).catch((error: Error) => ({ failed: error.message })),
  );
}

setPriority(NICE);
setInterval(() => {
  if (process.memoryUsage().rss < MEMORY_BYTES_MAX) return;
  const why = `the fetch process needs more than ${MEMORY_BYTES_MAX / 1024 / 1024} MiB of memory for this source`;
  void report({ failed: why }).then(() => process.exit(0));
}, MEMORY_EVERY_MS).unref();
let isStarted = false;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (isStarted) return;
  isStarted = true;
  void run(line).then(() => process.exit(0));
});
lines.on('close', () => process.exit(0));
