// KatamariError, and the table that maps each error code to Thrift, JSON-RPC and HTTP. Errors cross process boundaries
// as data (code, message, facts) and are not recognized by instanceof; `cause` stays in the process that threw.

/** How an error code appears in each protocol and in the statistics. */
export interface ErrorFace {
  /** TApplicationException type: 1 unknown method, 6 internal error, 7 protocol error. */
  readonly thrift: 1 | 6 | 7;
  /** JSON-RPC error code. */
  readonly jsonRpc: number;
  /** HTTP status of a single call that the mesh itself refused. */
  readonly http: number;
  /** Whether the same call may be sent again: always, only if its method is idempotent, after a delay, or never. */
  readonly retry: 'yes' | 'if idempotent' | 'later' | 'no';
  /** The statistics counter to which a call with this code is added. */
  readonly outcome: 'refused' | 'failed' | 'timed_out' | 'cancelled';
  /** Number of the code in ReplyContext and in `idl/katamari.thrift`. */
  readonly wire: number;
}

/** Every reason for which the mesh fails a call. Exceptions that a service declares are replies, not errors. */
export type ErrorCode =
  | 'no_pool'
  | 'overloaded'
  | 'timeout'
  | 'resource_failed'
  | 'draining'
  | 'denied'
  | 'rate_limited'
  | 'too_large'
  | 'bad_request'
  | 'internal'
  | 'cancelled'
  | 'refused_as_poison'
  | 'incomplete';

/** Protocol codes, retry rule and counter of each error code. */
export const ERROR_TABLE: Readonly<Record<ErrorCode, ErrorFace>> = {
  no_pool: { thrift: 1, jsonRpc: -32001, http: 404, retry: 'no', outcome: 'refused', wire: 1 },
  overloaded: { thrift: 6, jsonRpc: -32002, http: 503, retry: 'yes', outcome: 'refused', wire: 2 },
  timeout: { thrift: 6, jsonRpc: -32003, http: 504, retry: 'if idempotent', outcome: 'timed_out', wire: 3 },
  resource_failed: { thrift: 6, jsonRpc: -32004, http: 502, retry: 'if idempotent', outcome: 'failed', wire: 4 },
  /** The same call of the same caller has cost a copy its connection or its life. */
  refused_as_poison: { thrift: 6, jsonRpc: -32010, http: 422, retry: 'no', outcome: 'refused', wire: 12 },
  /** Fewer shards are in the answer than the caller asks for. The mesh has tried their replicas already. */
  incomplete: { thrift: 6, jsonRpc: -32011, http: 503, retry: 'no', outcome: 'failed', wire: 13 },
  draining: { thrift: 6, jsonRpc: -32005, http: 503, retry: 'yes', outcome: 'refused', wire: 5 },
  denied: { thrift: 6, jsonRpc: -32006, http: 403, retry: 'no', outcome: 'refused', wire: 6 },
  rate_limited: { thrift: 6, jsonRpc: -32007, http: 429, retry: 'later', outcome: 'refused', wire: 7 },
  too_large: { thrift: 6, jsonRpc: -32008, http: 413, retry: 'no', outcome: 'refused', wire: 8 },
  bad_request: { thrift: 7, jsonRpc: -32600, http: 400, retry: 'no', outcome: 'refused', wire: 9 },
  internal: { thrift: 6, jsonRpc: -32603, http: 500, retry: 'no', outcome: 'failed', wire: 10 },
  /** The caller canceled the call or disconnected, so no client receives this code. Only the counters use it. */
  cancelled: { thrift: 6, jsonRpc: -32009, http: 499, retry: 'no', outcome: 'cancelled', wire: 11 },
};

/** Details that travel with an error. All are optional plain data. */
export interface ErrorFacts {
  /** Where the call was when its deadline passed: waiting in a queue, or in a chassis. */
  readonly stage?: 'queue' | 'service';
  /** Delay in ms after which a retry may succeed. */
  readonly retryAfterMs?: number;
  /** True for `no_pool` when no service of the mesh has the method. */
  readonly unknownMethod?: boolean;
  /** JSON-RPC code that replaces the table's, for example -32601, -32602, -32700. */
  readonly jsonRpcCode?: number;
  /** HTTP status that replaces the table's, for example 401. */
  readonly httpStatus?: number;
  /** True when the call certainly did not run, so that sending it again is safe. */
  readonly notRun?: boolean;
  /**
   * True when the call may have cost a copy its connection or its life. It is not sent again, even if its method is
   * idempotent: the next copy would fare no better. False when it certainly has not.
   */
  readonly isSuspect?: boolean;
  /** True for `bad_request` when a value is only nested too deep: the message itself is well formed so far. */
  readonly isTooDeep?: boolean;
}

/** The error type of the mesh. `message` says what failed and what to do about it. */
export class KatamariError extends Error {
  override readonly name = 'KatamariError';
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, cause?: unknown) {
    // Only `internal` errors capture a stack, which locates the defect. Other errors are explained by their message,
    // and capturing a stack would cost more than the refused call itself.
    const { stackTraceLimit } = Error;
    if (code !== 'internal') Error.stackTraceLimit = 0;
    super(message, cause === undefined ? undefined : { cause });
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.facts = facts;
  }
}

/**
 * Facts of a `timeout` while no copy of a deployed service was up or could be reached. The call did not run and may
 * be sent again: HTTP clients get 503 with Retry-After, not 504.
 */
export const NO_COPY_UP: ErrorFacts = { stage: 'queue', notRun: true, retryAfterMs: 500, httpStatus: 503 };

/** Returns the error code of a wire number; `internal` for an unknown number, which a newer peer may send. */
export function errorCodeOfWire(wire: number): ErrorCode {
  return codeByWire.get(wire) ?? 'internal';
}

/** Returns `thrown` if it is a KatamariError, else an `internal` error with `thrown` as its cause. */
export function asKatamariError(thrown: unknown): KatamariError {
  if (thrown instanceof KatamariError || isCopy(thrown)) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new KatamariError('internal', `Defect in the mesh, please report it: ${message}`, {}, thrown);
}

/**
 * Recognizes a KatamariError of another copy of this module: a custom faceplate may import the built library while the
 * mesh runs from its sources.
 */
function isCopy(thrown: unknown): thrown is KatamariError {
  return thrown instanceof Error && thrown.name === 'KatamariError' && 'code' in thrown && 'facts' in thrown;
}

const codeByWire: ReadonlyMap<number, ErrorCode> = new Map(
  (Object.keys(ERROR_TABLE) as ErrorCode[]).map((code) => [ERROR_TABLE[code].wire, code]),
);
