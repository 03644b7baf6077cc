// One JSON-RPC call on its way through the mesh: pool, bytes of the arguments, dispatch, value of the result; entered in the book
// when it comes and settled once when it ends, at once when its client has gone. Talks to the MeshDoor only.

import {
  asKatamariError,
  createCall,
  decodeResult,
  encodeParams,
  KatamariError,
  readApplicationException,
} from '../../chassis-sdk/internal.ts';
import type {
  CallResult,
  CallStats,
  Clock,
  MeshDoor,
  Method,
  PoolView,
  Reply,
  ReplyContext,
  StatsBook,
} from '../../chassis-sdk/internal.ts';
import type { Target } from './method-name.ts';
import { DECLARED_EXCEPTION, rpcErrorOf, type RpcError } from './rpc-error.ts';
import { paramsWithNumbers } from './text.ts';
import type { Wishes } from '../../chassis-sdk/internal.ts';

/** One HTTP request and what all calls in it share. */
export interface Exchange {
  /** What follows `/rpc/`: `Service`, `Service@version` or ''. */
  readonly path: string;
  readonly wishes: Wishes;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** `json-rpc 10.0.0.7` */
  readonly caller: string;
  /** See text.ts. */
  readonly mark: string;
  /** How the last call of this request ended; what the HTTP side of a single call is made from. */
  ending: Ending | undefined;
}

export type Ending =
  | { readonly kind: 'answered'; readonly version: string; readonly context: ReplyContext }
  | { readonly kind: 'refused'; readonly error: KatamariError };

/** What becomes the `result` or the `error` member. */
export type Answer = { readonly error: RpcError } | { readonly error: undefined; readonly result: unknown };

export interface CallsOptions {
  readonly mesh: MeshDoor;
  readonly book: StatsBook;
  readonly clock: Clock;
}

export class Calls {
  readonly #mesh: MeshDoor;
  readonly #book: StatsBook;
  readonly #clock: Clock;
  /** New calls are refused from now on. */
  isDraining = false;

  constructor({ mesh, book, clock }: CallsOptions) {
    this.#mesh = mesh;
    this.#book = book;
    this.#clock = clock;
  }

  /** Settles with an answer always; never rejects. */
  async call(target: Target, params: unknown, exchange: Exchange): Promise<Answer> {
    const startedMs = this.#clock.nowMs();
    let stats: CallStats | undefined;
    let queueUs = 0;
    let result: CallResult = 'ok';
    let answer: Answer;
    try {
      if (this.isDraining) throw draining();
      const { wishes } = exchange;
      const pool = this.#mesh.directory.choose({
        service: target.service,
        method: target.method,
        version: target.version === '' ? wishes.version : target.version,
        roles: wishes.roles,
        tags: wishes.tags,
        details: NO_DETAILS,
        key: wishes.key,
      });
      stats = this.#accept(pool.details.service, target.method);
      const method = pool.interface.methods.get(target.method);
      if (method === undefined) throw new KatamariError('no_pool', `${pool.id} has no method "${target.method}"`);
      const reply = await this.#send(pool, method, params, exchange, startedMs);
      queueUs = reply.context.queueUs;
      exchange.ending = {
        kind: 'answered',
        version: reply.context.version || pool.details.version,
        context: reply.context,
      };
      answer = answerOf(pool, method, reply);
      if (answer.error !== undefined) stats.exceptions++;
    } catch (thrown) {
      const error = asKatamariError(thrown);
      stats ??= this.#accept(...this.#pageOf(target));
      result = error.code;
      exchange.ending = { kind: 'refused', error };
      answer = { error: rpcErrorOf(error) };
    }
    stats.settle(result, this.#clock.nowMs() - startedMs, queueUs);
    return answer;
  }

  /** Enters what came in and was refused (or answered by the faceplate itself) before there was a call. */
  enter(result: CallResult): void {
    this.#accept('-', '-').settle(result, 0, 0);
  }

  #send(pool: PoolView, method: Method, params: unknown, exchange: Exchange, startedMs: number): Promise<Reply> {
    const { wishes, signal, mark } = exchange;
    if (signal.aborted) throw gone();
    let given = mark === '' ? params : paramsWithNumbers(params, method.args.fields, mark);
    if (wishes.token !== '' && pool.details.service === ADMIN_SERVICE) given = withToken(given, method, wishes.token);
    const call = createCall({
      service: pool.details.service,
      method: method.name,
      oneway: method.oneway,
      args: encodeParams(method, given),
      deadlineMs: startedMs + Math.min(this.#mesh.timeoutMs(), wishes.timeoutMs),
      version: pool.details.version,
      roles: wishes.roles,
      tags: wishes.tags,
      key: wishes.key,
      traceparent: wishes.traceparent,
      tracestate: wishes.tracestate,
      caller: exchange.caller,
      signal,
    });
    return orGone(this.#mesh.dispatch(call), signal);
  }

  #accept(service: string, method: string): CallStats {
    const stats = this.#book.of(FACEPLATE, service, method);
    stats.accept();
    return stats;
  }

  /** Where a call is entered that no pool was chosen for: under its name when the mesh has that service and method at all. */
  #pageOf({ service, method }: Target): [string, string] {
    const isKnown = this.#mesh.directory
      .pools()
      .some((pool) => pool.details.service === service && pool.interface.methods.has(method));
    return isKnown ? [service, method] : ['-', '-'];
  }
}

/** The reply, or `cancelled` as soon as the client has gone: what the mesh still says then is of no interest. */
function orGone(work: Promise<Reply>, signal: AbortSignal): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(gone());
    signal.addEventListener('abort', onAbort);
    work.then(
      (reply) => {
        signal.removeEventListener('abort', onAbort);
        resolve(reply);
      },
      (thrown: unknown) => {
        signal.removeEventListener('abort', onAbort);
        reject(thrown as Error);
      },
    );
  });
}

function answerOf(pool: PoolView, method: Method, reply: Reply): Answer {
  if (reply.isException) {
    const { message } = readException(pool, reply.body);
    return { error: { code: INTERNAL_ERROR, message, data: { code: 'application' } } };
  }
  if (method.oneway) return { error: undefined, result: null };
  const decoded = decodeResult(method, reply.body);
  if (decoded.ok) return { error: undefined, result: decoded.value };
  const { exception, fields } = decoded;
  const data = Object.assign({ exception }, fields, { exception });
  return { error: { code: DECLARED_EXCEPTION, message: exceptionMessage(exception, fields), data } };
}

/** One that cannot be read is the chassis's fault, not the caller's. */
function readException(pool: PoolView, body: Uint8Array): { readonly message: string } {
  try {
    return readApplicationException(body);
  } catch (thrown) {
    const { message } = asKatamariError(thrown);
    throw new KatamariError(
      'resource_failed',
      `${pool.id} sent an exception that cannot be read: ${message}`,
      {},
      thrown,
    );
  }
}

/** `InvalidOperation: Cannot divide by 0`: its name and the first text in it. */
function exceptionMessage(exception: string, fields: Readonly<Record<string, unknown>>): string {
  const text = fields['message'] ?? Object.values(fields).find((value) => typeof value === 'string');
  return typeof text === 'string' && text !== '' ? `${exception}: ${text}` : exception;
}

/** The token of the Authorization header as the first argument, unless the params have one. */
function withToken(params: unknown, { args }: Method, token: string): unknown {
  if (Array.isArray(params)) return params.length < args.fields.length ? [token, ...(params as unknown[])] : params;
  if (params === undefined || params === null) return { token };
  return typeof params === 'object' && !Object.hasOwn(params, 'token') ? { ...params, token } : params;
}

function gone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone');
}

function draining(): KatamariError {
  return new KatamariError('draining', 'This faceplate is stopping: send the call again, another one will take it', {
    notRun: true,
  });
}

const FACEPLATE = 'json-rpc';
const ADMIN_SERVICE = 'Katamari';
const INTERNAL_ERROR = -32_603;
const NO_DETAILS: Readonly<Record<string, string>> = Object.freeze({});
