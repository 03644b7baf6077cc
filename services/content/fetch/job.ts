// Protocol between a manager and its fetch process: one JSON value per line. The manager writes the job and keeps stdin
// open; the process exits when stdin closes.

import { z } from 'zod';

export interface FetchJob {
  /** `index@version/shard`, for messages. */
  readonly shard: string;
  /** URL of the folder or file of the shard. */
  readonly source: string;
  /** Digest that the source must have. */
  readonly digest: string;
  /** Folder that gets `content` and `shard.json`. */
  readonly into: string;
  /** Limit of the rate; 0 for none. */
  readonly bytesPerS: number;
}

/** Asks whether the files of a shard are as they were fetched. */
export interface VerifyJob {
  /** Folder of `content` and `shard.json`. */
  readonly verify: string;
}

export type FetchReport = { readonly bytesDone: number } | { readonly failed: string } | { readonly done: boolean };

/** Returns undefined for a line that is no report, for example a warning of the runtime. */
export function parseReport(line: string): FetchReport | undefined {
  try {
    return REPORT.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

const REPORT: z.ZodType<FetchReport> = z.union([
  z.object({ bytesDone: z.int().nonnegative() }),
  z.object({ failed: z.string() }),
  z.object({ done: z.boolean() }),
]);
