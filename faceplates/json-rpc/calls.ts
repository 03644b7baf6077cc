// One JSON-RPC call: the params with their numbers and the admin's token put in place, handed to FaceplateCalls, and
// what came of it as the `result` or the `error` member. Talks to rpc.ts above it.

import { encodeParams } from '../../core/idl/mod.ts';
import type { KatamariError, Clock } from '../../core/mod.ts';
import type { MeshAccess, PoolView, ReplyContext, StatsTable, CallHeaders, CallResult } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { FaceplateCalls, type JsonAnswer, type Outcome, type MethodName } from '../kit/mod.ts';
import { DECLARED_EXCEPTION, rpcErrorOf, type RpcError } from './rpc-error.ts';
import { paramsWithNumbers } from './text.ts';

/** One HTTP request and what all calls in it share. */
export interface Exchange {
  /** What follows `/rpc/`: `Service`, `Service@version` or ''. */
  readonly path: string;
  readonly wishes: CallHeaders;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** `json-rpc 10.0.0.7` */
  readonly caller: string;
  /** See text.ts. */
  readonly mark: string;
  /** How the last call of this request ended; what the HTTP side of a single call is made from. */
  ending: CallEnding | undefined;
}

export type CallEnding =
  | { readonly kind: 'answered'; readonly version: string; readonly context: ReplyContext }
  | { readonly kind: 'refused'; readonly error: KatamariError };

/** What becomes the `result` or the `error` member. */
export type JsonRpcAnswer = { readonly error: RpcError } | { readonly error: undefined; readonly result: unknown };

export interface JsonRpcCallsOptions {
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly clock: Clock;
}

export class JsonRpcCalls {
  readonly #calls: FaceplateCalls;

  constructor(options: JsonRpcCallsOptions) {
    this.#calls = new FaceplateCalls({ ...options, name: FACEPLATE });
  }

  /** New calls are refused from now on. */
  drain(): void {
    this.#calls.isDraining = true;
  }

  /** Calls `end` with an answer, once, perhaps before this returns. */
  begin(target: MethodName, params: unknown, exchange: Exchange, end: (answer: JsonRpcAnswer) => void): void {
    const { wishes, signal, caller } = exchange;
    this.#calls.begin(
      { target, headers: wishes, signal, caller },
      {
        encode: (method, pool) => encodeParams(method, given(params, method, pool, exchange)),
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

  /** Enters what came in and was refused (or answered by the faceplate itself) before there was a call. */
  enter(result: CallResult): void {
    this.#calls.enter(result);
  }
}

function given(params: unknown, method: Method, pool: PoolView, { mark, wishes }: Exchange): unknown {
  const exact = mark === '' ? params : paramsWithNumbers(params, method.args.fields, mark);
  return wishes.token !== '' && pool.details.service === ADMIN_SERVICE ? withToken(exact, method, wishes.token) : exact;
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

/** The token of the Authorization header as the first argument, unless the params have one. */
function withToken(params: unknown, { args }: Method, token: string): unknown {
  if (Array.isArray(params)) return params.length < args.fields.length ? [token, ...(params as unknown[])] : params;
  if (params === undefined || params === null) return { token };
  return typeof params === 'object' && !Object.hasOwn(params, 'token') ? { ...params, token } : params;
}

const FACEPLATE = 'json-rpc';
const ADMIN_SERVICE = 'Katamari';
const INTERNAL_ERROR = -32_603;
