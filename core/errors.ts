// The one error type of the mesh and the one table that gives each code its face on every protocol (DESIGN.md section
// 5). Errors cross processes as data (code, message, a few facts), never by instanceof; `cause` stays on this side.

/** What a refused or failed call looks like in each protocol, and what became of it for the counters. */
export interface ErrorFace {
  /** TApplicationException type: 1 unknown method, 6 internal error, 7 protocol error. */
  readonly thrift: 1 | 6 | 7;
  readonly jsonRpc: number;
  /** HTTP status of a single call that the mesh itself refused. */
  readonly http: number;
  /** May the same call be sent again: always, only if its method is idempotent, or never. */
  readonly retry: 'yes' | 'if idempotent' | 'later' | 'no';
  /** The counter a call that ends so is added to. */
  readonly outcome: 'refused' | 'failed' | 'timed_out' | 'cancelled';
  /** Number that stands for the code in ReplyContext and in `idl/katamari.thrift`. */
  readonly wire: number;
}

/** Every way in which the mesh can fail a call. Declared exceptions of a service are replies, not errors. */
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
  | 'cancelled';

export const ERROR_TABLE: Readonly<Record<ErrorCode, ErrorFace>> = {
  no_pool: { thrift: 1, jsonRpc: -32001, http: 404, retry: 'no', outcome: 'refused', wire: 1 },
  overloaded: { thrift: 6, jsonRpc: -32002, http: 503, retry: 'yes', outcome: 'refused', wire: 2 },
  timeout: { thrift: 6, jsonRpc: -32003, http: 504, retry: 'if idempotent', outcome: 'timed_out', wire: 3 },
  resource_failed: { thrift: 6, jsonRpc: -32004, http: 502, retry: 'if idempotent', outcome: 'failed', wire: 4 },
  draining: { thrift: 6, jsonRpc: -32005, http: 503, retry: 'yes', outcome: 'refused', wire: 5 },
  denied: { thrift: 6, jsonRpc: -32006, http: 403, retry: 'no', outcome: 'refused', wire: 6 },
  rate_limited: { thrift: 6, jsonRpc: -32007, http: 429, retry: 'later', outcome: 'refused', wire: 7 },
  too_large: { thrift: 6, jsonRpc: -32008, http: 413, retry: 'no', outcome: 'refused', wire: 8 },
  bad_request: { thrift: 7, jsonRpc: -32600, http: 400, retry: 'no', outcome: 'refused', wire: 9 },
  internal: { thrift: 6, jsonRpc: -32603, http: 500, retry: 'no', outcome: 'failed', wire: 10 },
  /** The caller went away; nobody reads this one, it exists for the counters. */
  cancelled: { thrift: 6, jsonRpc: -32009, http: 499, retry: 'no', outcome: 'cancelled', wire: 11 },
};

/** Facts that travel with an error; all optional, all plain data. */
export interface ErrorFacts {
  /** Where the deadline passed. */
  readonly stage?: 'queue' | 'service';
  /** When another try may succeed, in ms from now. */
  readonly retryAfterMs?: number;
  /** True for `no_pool` when no service of the mesh has the method. */
  readonly unknownMethod?: boolean;
  /** Finer JSON-RPC code than the table's, for example -32601, -32602, -32700. */
  readonly jsonRpcCode?: number;
  /** Finer HTTP status than the table's, for example 401. */
  readonly httpStatus?: number;
  /** True when the call certainly never ran, so that sending it again is safe. */
  readonly notRun?: boolean;
}

/** The one error of the mesh. `message` says what to do next. */
export class KatamariError extends Error {
  override readonly name = 'KatamariError';
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, cause?: unknown) {
    // Where a defect is, its stack says. A refusal says all in its words, and a stack would cost more than the call
    // that is refused.
    const { stackTraceLimit } = Error;
    if (code !== 'internal') Error.stackTraceLimit = 0;
    super(message, cause === undefined ? undefined : { cause });
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.facts = facts;
  }
}

/** The code a wire number stands for; unknown numbers (a newer peer) read as internal. */
export function errorCodeOfWire(wire: number): ErrorCode {
  return codeByWire.get(wire) ?? 'internal';
}

/** Any thrown value as a KatamariError: itself, or `internal` with the value as cause. */
export function asKatamariError(thrown: unknown): KatamariError {
  if (thrown instanceof KatamariError || isCopy(thrown)) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new KatamariError('internal', `Defect in the mesh, please report it: ${message}`, {}, thrown);
}

/**
 * Of another copy of this file: a faceplate of the user's own may have the built library while the mesh runs from its
 * sources.
 */
function isCopy(thrown: unknown): thrown is KatamariError {
  return thrown instanceof Error && thrown.name === 'KatamariError' && 'code' in thrown && 'facts' in thrown;
}

const codeByWire: ReadonlyMap<number, ErrorCode> = new Map(
  (Object.keys(ERROR_TABLE) as ErrorCode[]).map((code) => [ERROR_TABLE[code].wire, code]),
);
