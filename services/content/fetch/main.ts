// The process that fetches and verifies shards, one at a time, or lists a source. Copying and hashing must not block
// the event loop that routes calls, so it is a process of its own, whose manager lowers its priority. It exits when its
// manager does.

import { createInterface } from 'node:readline';
import { whySourceRefused } from '../allowed-sources.ts';
import { ByteRate } from './byte-rate.ts';
import { copyShard } from './copy-shard.ts';
import { inspect } from './inspect.ts';
import type { FetchOrder, FetchReport, SourceJob, VerifyJob } from './job.ts';
import { SourceError } from './shard-source.ts';
import { sourceFor } from './sources/choose.ts';

const REPORT_EVERY_MS = 200;
/** Enough for a listing of millions of names. Files are read in chunks. */
const MEMORY_BYTES_MAX = 1024 * 1024 * 1024;
const MEMORY_EVERY_MS = 250;
/** A process that uses more memory after a job ends, and takes no other one. */
const MEMORY_KEPT_BYTES_MAX = 256 * 1024 * 1024;

/** The rate of the last fetch or check. */
let rate: ByteRate | undefined;

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
  if (!('inspect' in job)) rate = new ByteRate(job.bytesPerS);
  if ('verify' in job) {
    let bytesDone = 0;
    // It loads zod, which takes as much time as the start of a process without it.
    const { findDamage } = await import('./find-damage.ts');
    const damage = await findDamage(job.verify, (bytes) => progress((bytesDone = bytes)), rate);
    await report({ bytesDone });
    return { damage };
  }
  const url = 'inspect' in job ? job.inspect : job.source;
  const why = await whySourceRefused(url, job.allowed);
  if (why !== undefined) throw new SourceError(why);
  const source = await sourceFor(url, job.allowed);
  if ('inspect' in job) return { listing: await inspect(url, source) };
  await copyShard(job, source, progress, rate);
  return { done: true };
}

async function run(job: SourceJob | VerifyJob): Promise<void> {
  await report(await resultOf(job).catch((error: Error) => ({ failed: error.message })));
  if (process.memoryUsage().rss > MEMORY_KEPT_BYTES_MAX) process.exit(0);
  await report({ isReady: true });
}

// The modes of the files of shards do not depend on the umask of the manager.
process.umask(0o022);
setInterval(() => {
  if (process.memoryUsage().rss < MEMORY_BYTES_MAX) return;
  const why = `the fetch process needs more than ${MEMORY_BYTES_MAX / 1024 / 1024} MiB of memory for this source`;
  void report({ failed: why }).then(() => process.exit(0));
}, MEMORY_EVERY_MS).unref();
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const order = JSON.parse(line) as FetchOrder;
  if ('newBytesPerS' in order) rate?.change(order.newBytesPerS);
  else void run(order);
});
lines.on('close', () => process.exit(0));
void report({ isReady: true });
