// The target of the fuzzer: three addresses, valid calls to start from, and a check. Any system with these can be
// fuzzed.

/** One valid call, as bytes and as JSON. */
export interface GoodCall {
  readonly service: string;
  readonly method: string;
  /** The argument struct in strict binary. */
  readonly args: Buffer;
  readonly params: unknown;
}

/** Ports to fuzz. Lanes without an address (0 or '') are skipped. */
export interface FuzzTarget {
  readonly thriftPort: number;
  readonly jsonRpcPort: number;
  /** `tcp:HOST:PORT` */
  readonly linkAddress: string;
  readonly goodCalls: readonly GoodCall[];
  /**
   * Called after the last input, when all connections of the fuzzer are closed. Throws when the target is not as it
   * should be: valid calls fail, a handler got an invalid call, or counters do not add up.
   */
  check(): Promise<void>;
  /**
   * Bytes in use, after a garbage collection if possible; undefined when the target is another process that cannot be
   * asked.
   */
  memory(): Promise<Memory | undefined>;
}

export interface Memory {
  readonly heapBytes: number;
  readonly rssBytes: number;
}
