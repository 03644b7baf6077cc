// The indices of the mesh as the dashboard shows them. States of shards travel as short text, so that thousands of
// shards on several managers cost a few kilobytes.

/** States of a shard on a manager, and the letter of each; `-`: the manager is not to hold it. */
export const SHARD_LETTERS = {
  serving: 's',
  fetching: 'f',
  opening: 'o',
  leaving: 'l',
  backing_off: 'b',
} as const;

/** The shards of one index version on one manager. */
export interface ManagerShards {
  readonly name: string;
  /** Whether it has answered; else this is what it said last. */
  readonly isReachable: boolean;
  /** A letter for each shard in order of the names, with a count where it repeats: `12s3f-`. */
  readonly states: string;
  readonly bytesDone: number;
  readonly bytesWanted: number;
}

export interface IndexOverview {
  readonly name: string;
  readonly version: string;
  readonly contentService: string;
  readonly state: 'loading' | 'complete' | 'degraded' | 'incomplete';
  /** Share of the calls that name no version, from 0 to 1. */
  readonly share: number;
  readonly entries: number;
  readonly bytes: number;
  readonly shards: number;
  /** Shards that some manager serves. */
  readonly served: number;
  /** Managers that are to serve each shard. */
  readonly replicas: number;
  /** What is missing and why, for people. */
  readonly conditions: readonly string[];
  /** Empty when all versions together would be too long. */
  readonly managers: readonly ManagerShards[];
  /** Calls that this process gathered, by result. */
  readonly calls: Readonly<Record<string, number>>;
}

export interface IndicesOverview {
  readonly versions: readonly IndexOverview[];
  /** Requests of this process to managers, by kind, and shards missing in answers, by reason. */
  readonly requests: Readonly<Record<string, number>>;
  readonly missing: Readonly<Record<string, number>>;
}

/** Writes `sssf` as `3sf`. */
export function runLengths(letters: Iterable<string>): string {
  let text = '';
  let last = '';
  let count = 0;
  const write = (): void => void (text += count > 1 ? `${count}${last}` : last);
  for (const letter of letters) {
    if (letter !== last) {
      write();
      [last, count] = [letter, 0];
    }
    count++;
  }
  write();
  return text;
}
