// One JSON-RPC call: completes the params (long numbers, the admin token), sends the call through FaceplateCalls, and
// returns the text of the `result` or `error` member. Used by rpc.ts.

import { encodeParams, resultText } from '../../core/idl/mod.ts';
import { tooMuchToSend } from '../../core/link/mod.ts';
import type { ByteAccount, KatamariError, Clock } from '../../core/mod.ts';
import {
  type CallerIdentity,
  type CallHeaders,
  type CallResult,
  isAdminService,
  type MeshAccess,
  type PoolView,
  type ReplyContext,
  type StatsTable,
} from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { FaceplateCalls, type Outcome, type MethodName } from '../kit/mod.ts';
import { type AnswerMember, refusedAnswer, SMALL_BYTES, textAnswer } from './answer.ts';
import { DECLARED_EXCEPTION, type RpcError } from './rpc-error.ts';
import { paramsWithNumbers } from './text.ts';

/** One HTTP request: the data that all calls in it share. */
export interface Exchange {
  /** The path after `/rpc/`: `Service`, `Service@version` or ''. */
  readonly path: string;
  readonly headers: CallHeaders;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
  /** What the connection of the client holds. */
  readonly account: ByteAccount;
  /** Name of the client, for logs: `json-rpc 10.0.0.7`. */
  readonly caller: string;
  readonly identity: CallerIdentity;
  /** Whether the HTTP status of a single call tells its error. */
  readonly errorStatus: boolean;
  /** When the request arrived, for a batch. */
  readonly arrivedMs?: number | undefined;
  /** Prefix of long integers in the params, see text.ts; '' if there are none. */
  mark: string;
  /** Bytes of the largest answer to this request so far, also of one that was dropped. */
  largestBytes: number;
  /** How the last call of this request ended. Determines the HTTP status and headers of a single call. */
  ending: CallEnding | undefined;
}

export type CallEnding =
  | { readonly kind: 'answered'; readonly version: string; readonly context: ReplyContext }
  | { readonly kind: 'refused'; readonly error: KatamariError };

export interface JsonRpcCallsOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly clock: Clock;
}

export class JsonRpcCalls {
  readonly #calls: FaceplateCalls;
  readonly #mesh: MeshAccess;

  constructor(options: JsonRpcCallsOptions) {
    this.#mesh = options.mesh;
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

  /** Returns the timeout of the calls of a request, in ms. */
  timeoutOf({ headers }: Exchange): number {
    return Math.min(this.#mesh.timeoutMs(), headers.timeoutMs);
  }

  /** Starts a call. `end` is called once with the answer, possibly before this returns. */
  begin(target: MethodName, params: unknown, exchange: Exchange, end: (answer: AnswerMember) => void): void {
    const { headers, signal, caller, identity, arrivedMs, account } = exchange;
    this.#calls.begin(
      { target, headers, signal, caller, identity, arrivedMs, account },
      {
        encode: (method, pool) => encodeParams(method, completed(params, method, pool, exchange)),
        decode: (called, body) => answerOfReply(called, body, exchange),
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
  return token !== '' && isAdminService(pool.details.service) ? withToken(exact, method, token) : exact;
}

/** The answer of a method; `ok` is false for a declared exception. */
interface MethodAnswer {
  readonly ok: boolean;
  readonly answer: AnswerMember;
}

/** Prints a small answer at once, so that a reply which does not match its interface is counted as failed. */
function answerOfReply(method: Method, body: Uint8Array, exchange: Exchange): MethodAnswer {
  if (method.oneway) return NOTHING;
  const { account } = exchange;
  if (body.length > exchange.largestBytes) exchange.largestBytes = body.length;
  const isLarge = body.length > SMALL_BYTES;
  if (isLarge && account.exceeds(body.length)) throw tooMuchToSend(body.length, account);
  const { exception, message, text } = resultText(method, body);
  const ok = exception === '';
  const before = ok ? RESULT : `"error":{"code":${DECLARED_EXCEPTION},"message":${JSON.stringify(message)},"data":`;
  const after = ok ? '' : '}';
  return { ok, answer: isLarge ? { before, value: text, after } : textAnswer(before + text.all() + after) };
}

function answerOf(outcome: Outcome<MethodAnswer>): AnswerMember {
  switch (outcome.kind) {
    case 'refused':
      return refusedAnswer(outcome.error);
    case 'failed': {
      const error: RpcError = { code: INTERNAL_ERROR, message: outcome.message, data: { code: 'application' } };
      return textAnswer(`"error":${JSON.stringify(error)}`);
    }
    case 'answered':
      return outcome.answer.answer;
  }
}

/** Adds the token of the Authorization header as the first argument, unless the params have one. */
function withToken(params: unknown, { args }: Method, token: string): unknown {
  if (Array.isArray(params)) return params.length < args.fields.length ? [token, ...(params as unknown[])] : params;
  if (params === undefined || params === null) return { token };
  return typeof params === 'object' && !Object.hasOwn(params, 'token') ? { ...params, token } : params;
}

const FACEPLATE = 'json-rpc';
const RESULT = '"result":';
const NOTHING: MethodAnswer = { ok: true, answer: textAnswer(`${RESULT}null`) };
const INTERNAL_ERROR = -32_603;
