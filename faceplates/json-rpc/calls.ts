// One JSON-RPC call: completes the params (long numbers, the admin token), sends the call through FaceplateCalls, and
// returns the `result` or `error` member. Used by rpc.ts.

import { encodeParams } from '../../core/idl/mod.ts';
import type { KatamariError, Clock } from '../../core/mod.ts';
import type {
  CallerIdentity,
  MeshAccess,
  PoolView,
  ReplyContext,
  StatsTable,
  CallHeaders,
  CallResult,
} from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { FaceplateCalls, type JsonAnswer, type Outcome, type MethodName } from '../kit/mod.ts';
import { DECLARED_EXCEPTION, rpcErrorOf, type RpcError } from './rpc-error.ts';
import { paramsWithNumbers } from './text.ts';

/** One HTTP request: the data that all calls in it share. */
export interface Exchange {
  /** The path after `/rpc/`: `Service`, `Service@version` or ''. */
  readonly path: string;
  readonly headers: CallHeaders;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
  /** Name of the client, for logs: `json-rpc 10.0.0.7`. */
  readonly caller: string;
  readonly identity: CallerIdentity;
  /** Prefix of long integers in the params, see text.ts; '' if there are none. */
  readonly mark: string;
  /** How the last call of this request ended. Determines the HTTP status and headers of a single call. */
  ending: CallEnding | undefined;
}

export type CallEnding =
  | { readonly kind: 'answered'; readonly version: string; readonly context: ReplyContext }
  | { readonly kind: 'refused'; readonly error: KatamariError };

/** The `result` or the `error` member of a response. */
export type JsonRpcAnswer = { readonly error: RpcError } | { readonly error: undefined; readonly result: unknown };

export interface JsonRpcCallsOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly clock: Clock;
}

export class JsonRpcCalls {
  readonly #calls: FaceplateCalls;

  constructor(options: JsonRpcCallsOptions) {
    this.#calls = new FaceplateCalls({ ...options, name: FACEPLATE });
  }

  /** Refuses all further calls. */
  drain(): void {
    this.#calls.isDraining = true;
  }

  /** Resolves when the oneway calls that were answered have ended. */
  whenOnewaysEnd(): Promise<void> {
    return this.#calls.whenOnewaysEnd();
  }

  /** Starts a call. `end` is called once with the answer, possibly before this returns. */
  begin(target: MethodName, params: unknown, exchange: Exchange, end: (answer: JsonRpcAnswer) => void): void {
    const { headers, signal, caller, identity } = exchange;
    this.#calls.begin(
      { target, headers, signal, caller, identity },
      {
        encode: (method, pool) => encodeParams(method, completed(params, method, pool, exchange)),
        decode: FaceplateCalls.readJson,
      },
      (outcome) => {
        exchange.ending =
          outcome.kind === 'refused'
            ? outcome
            : { kind: 'answered', version: outcome.version, context: outcome.context };
        end(answerOf(outcome));
      },
    );
  }

  /** Counts a request that the faceplate refused or answered itself, without a call. */
  enter(result: CallResult): void {
    this.#calls.enter(result);
  }
}

function completed(params: unknown, method: Method, pool: PoolView, { mark, headers }: Exchange): unknown {
  const exact = mark === '' ? params : paramsWithNumbers(params, method.args.fields, mark);
  const { token } = headers;
  return token !== '' && pool.details.service === ADMIN_SERVICE ? withToken(exact, method, token) : exact;
}

function answerOf(outcome: Outcome<JsonAnswer>): JsonRpcAnswer {
  switch (outcome.kind) {
    case 'refused':
      return { error: rpcErrorOf(outcome.error) };
    case 'failed':
      return { error: { code: INTERNAL_ERROR, message: outcome.message, data: { code: 'application' } } };
    case 'answered': {
      const { answer } = outcome;
      if (answer.ok) return { error: undefined, result: answer.value };
      const { exception, message, fields } = answer;
      const data = Object.assign({ exception }, fields, { exception });
      return { error: { code: DECLARED_EXCEPTION, message, data } };
    }
  }
}

/** Adds the token of the Authorization header as the first argument, unless the params have one. */
function withToken(params: unknown, { args }: Method, token: string): unknown {
  if (Array.isArray(params)) return params.length < args.fields.length ? [token, ...(params as unknown[])] : params;
  if (params === undefined || params === null) return { token };
  return typeof params === 'object' && !Object.hasOwn(params, 'token') ? { ...params, token } : params;
}

const FACEPLATE = 'json-rpc';
const ADMIN_SERVICE = 'Katamari';
const INTERNAL_ERROR = -32_603;
