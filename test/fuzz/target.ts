// What the fuzzer fires at. A target is three addresses, good calls to start from, and a check; anything that has
// these can be fuzzed.

/** One call that the target answers, as bytes and as JSON. */
export interface GoodCall {
  readonly service: string;
  readonly method: string;
  /** The argument struct in strict binary. */
  readonly args: Buffer;
  readonly params: unknown;
}

/** Where to fire. Lanes without an address (0 or '') are left out. */
export interface FuzzTarget {
  readonly thriftPort: number;
  readonly jsonRpcPort: number;
  /** `tcp:HOST:PORT` */
  readonly linkAddress: string;
  readonly goodCalls: readonly GoodCall[];
  /**
   * Called after the last input, when all connections of the fuzzer are gone. Throws when the target is not as it
   * should be: good calls fail, something reached a handler that should not have, counters do not add up.
   */
  check(): Promise<void>;
  /**
   * Bytes in use, after a collection if there is a way to ask for one; undefined when it is another process that
   * cannot be asked.
   */
  memory(): Promise<Memory | undefined>;
}

export interface Memory {
  readonly heapBytes: number;
  readonly rssBytes: number;
}
