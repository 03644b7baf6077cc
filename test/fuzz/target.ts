// What the fuzzer needs of a target: lanes to send input along, and a check. Any system with these can be fuzzed.

import type { Random } from '../kit/tools/random.ts';

/** One valid call, as bytes and as JSON. */
export interface GoodCall {
  readonly service: string;
  readonly method: string;
  /** The argument struct in strict binary. */
  readonly args: Buffer;
  readonly params: unknown;
}

/** Bytes to send, and how. */
export interface Input {
  /** For reports: what was corrupted. */
  readonly what: string;
  readonly bytes: Buffer;
  /** Maximum size of the pieces in which the bytes are sent; 0 for all at once. */
  readonly pieceBytes: number;
  readonly ending: Ending;
}

/** How a client ends after its input. */
export type Ending = 'end' | 'break off' | 'wait for an answer';

/** The next input of a lane. It depends only on the seed of the run, the lane and its number. */
export interface Turn {
  readonly number: number;
  readonly random: Random;
}

export interface Turns {
  /** undefined when the lane has sent its share. */
  next(): Turn | undefined;
  /** Remembers what an input was, for the report of a failure. */
  sends(turn: Turn, what: string): void;
  /** Counts received bytes. A target that answers nothing was not fuzzed. */
  heard(bytes: number): void;
  opened(): void;
}

/** One port, or one kind of peer that the target itself connects to. */
export interface Lane {
  readonly name: string;
  /** Workers that run at the same time. */
  readonly width: number;
  /** Plays turns until there are none. @throws Error when the target cannot be reached or breaks a promise */
  work(turns: Turns): Promise<void>;
}

export interface FuzzTarget {
  readonly lanes: readonly Lane[];
  /**
   * Called after the last input, when all connections of the fuzzer are closed. Throws when the target is not as it
   * should be: valid calls fail, a handler got an invalid call, or counters do not add up.
   */
  check(): Promise<void>;
}

/** Bytes in use. */
export interface Memory {
  readonly heapBytes: number;
  readonly rssBytes: number;
}
