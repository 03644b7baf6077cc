// Protocol between a manager and a fetch process: one JSON value per line. The process says when it is ready. Then the
// manager writes a job, the process reports on it, and says again when it is ready. It exits when stdin closes.

import { SHARD_NAME_MAX } from '../limits.ts';
import { z } from 'zod';
import { SHARDS_MAX } from '../../../core/mod.ts';

export interface FetchJob {
  /** `index@version/shard`, for messages. */
  readonly shard: string;
  /** URL of the folder or file of the shard. */
  readonly source: string;
  /** Digest that the source must have. */
  readonly digest: string;
  /** Folder that gets `content` and `shard.json`. */
  readonly into: string;
  /** Bytes per second, which may change later; 0 for no limit, which cannot change. */
  readonly bytesPerS: number;
}

/** Asks whether the files of a shard are as they were fetched. */
export interface VerifyJob {
  /** Folder of `content` and `shard.json`. */
  readonly verify: string;
  /** As in FetchJob. */
  readonly bytesPerS: number;
}

/** Asks for the shards of a source. */
export interface InspectJob {
  /** URL of the source. */
  readonly inspect: string;
}

/** A job that reads a source, with the prefixes of the sources that may be read. */
export type SourceJob = (FetchJob | InspectJob) & { readonly allowed: readonly string[] };

/** Changes the rate of the fetch or check that runs. */
export interface RateChange {
  readonly newBytesPerS: number;
}

/** What a manager writes. */
export type FetchOrder = SourceJob | VerifyJob | RateChange;

/** The shards of a source, in order of their names. */
export interface SourceListing {
  readonly shards: readonly { readonly name: string; readonly bytes: number; readonly digest: string }[];
  /** Warnings for the operator. The source can be used all the same. */
  readonly warnings: readonly string[];
}

export type JobResult =
  | { readonly done: boolean }
  /** What is wrong with the files of a shard; '' when nothing is. */
  | { readonly damage: string }
  | { readonly listing: SourceListing };

export type FetchReport =
  | JobResult
  | { readonly bytesDone: number }
  | { readonly failed: string }
  /** The last report on a job, and the first one of a process. */
  | { readonly isReady: true };

/** Returns undefined for a line that is no report, for example a warning of the runtime. */
export function parseReport(line: string): FetchReport | undefined {
  try {
    return REPORT.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

const LISTING: z.ZodType<SourceListing> = z.object({
  shards: z
    .array(z.object({ name: z.string().max(SHARD_NAME_MAX), bytes: z.int().nonnegative(), digest: z.string().max(64) }))
    .max(SHARDS_MAX),
  warnings: z.array(z.string().max(1_000)).max(100),
});

const REPORT: z.ZodType<FetchReport> = z.union([
  z.object({ bytesDone: z.int().nonnegative() }),
  z.object({ failed: z.string() }),
  z.object({ done: z.boolean() }),
  z.object({ damage: z.string() }),
  z.object({ isReady: z.literal(true) }),
  z.object({ listing: LISTING }),
]);
