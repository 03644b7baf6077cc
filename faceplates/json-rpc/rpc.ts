// The JSON-RPC 2.0 protocol: from a parsed request or batch to the text of the response.
//
// There are two paths. The fast path takes a well-formed single call whose id is a string or a number: it needs no
// further checks and goes straight to the mesh. For everything else, jayson checks the request, recognizes
// notifications and builds the response. This file corrects jayson where it deviates from the specification:
// - `id: null` is a request, not a notification (section 4.1).
// - An array inside a batch is an invalid request that must be answered. jayson's own batches never finish on one, so
//   each request of a batch is passed to jayson separately and the batch is assembled here.
// - A JSON string is not a request, even if its content could be parsed as one.

import jayson from 'jayson';
import { LRUCache } from 'lru-cache';
import { PartedBody } from '../../core/http/mod.ts';
import { asKatamariError, KatamariError, SliceQueue, type Clock } from '../../core/mod.ts';
import type { CallerIdentity } from '../../core/rpc/mod.ts';
import { parseMethodName, type MethodName } from '../kit/mod.ts';
import { printInSlices, refusedAnswer, responseTo, textAnswer, wholeText, type AnswerMember } from './answer.ts';
import { Batch, type BatchLimits, type BatchResponse } from './batch.ts';
import type { JsonRpcCalls, Exchange } from './calls.ts';
import { METHOD_NOT_FOUND } from './rpc-error.ts';
import { AmbiguousRequest } from './text.ts';

export interface RpcOptions {
  readonly calls: JsonRpcCalls;
  readonly clock: Clock;
  readonly limits: BatchLimits;
  /** Resolves to the OpenRPC document of the mesh, or of one `Service[@version]`, as JSON text. */
  readonly discover: (path: string, identity: CallerIdentity) => Promise<string>;
}

/** The text of a response ('' for none), or its parts. */
export type RpcBody = string | PartedBody;

/** A response as jayson returns it: this faceplate gives it an AnswerMember for every result and error. */
interface RpcResponse {
  readonly id: unknown;
  readonly result?: AnswerMember;
  readonly error?: { readonly code: number; readonly message: string };
}

/** A well-formed request with an id, for the fast path. */
interface SingleCall {
  readonly id: string | number;
  readonly method: string;
  readonly params?: object;
}

type JaysonHandler = (params: unknown, exchange: Exchange, done: (error: null, answer: AnswerMember) => void) => void;

export class Rpc {
  readonly #options: RpcOptions;
  readonly #jayson: jayson.Server;
  readonly #slices = new SliceQueue();
  /**
   * Handlers by method name, because jayson does not pass the name to a handler. Clients choose the names, so the
   * cache is bounded.
   */
  readonly #methods = new LRUCache<string, jayson.Method>({ max: METHODS_MAX });
  readonly #targets = new LRUCache<string, MethodName>({ max: METHODS_MAX });

  constructor(options: RpcOptions) {
    this.#options = options;
    this.#jayson = new jayson.Server({}, { router: (name) => this.#methodOf(name) });
  }

  /** Answers a request. Calls `end` once, perhaps before this returns. @throws KatamariError if a batch is refused */
  answer(request: unknown, exchange: Exchange, end: (body: RpcBody) => void): void {
    if (Array.isArray(request)) this.#answerBatch(request, exchange, end);
    else if (isPlainCall(request) && exchange.mark === '') {
      const { id, method, params } = request;
      this.#options.calls.begin(this.#targetOf(method, exchange.path), params, exchange, (answer) =>
        this.#respond(JSON.stringify(id), answer, exchange, end),
      );
    } else {
      this.#answerOne(request, exchange, (response) => {
        if (response === undefined) end('');
        else this.#respond(response.id, response.answer, exchange, end);
      });
    }
  }

  /** Answers a single request. */
  #respond(id: string, answer: AnswerMember, exchange: Exchange, end: (body: RpcBody) => void): void {
    const { before, value, after } = responseTo(id, answer);
    if (value === undefined) {
      end(before + after);
      return;
    }
    printInSlices(this.#slices, { before, value, after }, exchange, (printed) => {
      if ('parts' in printed) {
        const { account } = exchange;
        account.add(-printed.bytes);
        const body = new PartedBody(account, printed.bytes);
        for (const part of printed.parts) body.add(part);
        body.end();
        end(body);
      } else {
        exchange.ending = { kind: 'refused', error: printed };
        end(wholeText(responseTo(id, refusedAnswer(printed))));
      }
    });
  }

  #answerBatch(requests: readonly unknown[], exchange: Exchange, end: (body: RpcBody) => void): void {
    const { calls, clock, limits } = this.#options;
    const { batchMax } = limits;
    if (requests.length === 0) throw new KatamariError('bad_request', 'Invalid request: the batch is empty');
    if (requests.length > batchMax) {
      throw new KatamariError('too_large', `Batch is too long: ${requests.length} requests, limit is ${batchMax}`);
    }
    const timed = { ...exchange, arrivedMs: clock.nowMs() };
    const endMs = timed.arrivedMs + calls.timeoutOf(exchange);
    new Batch({
      count: requests.length,
      begin: (index, done) => this.#answerOne(requests[index], timed, done),
      end,
      reader: timed,
      slices: this.#slices,
      limits,
      whenOver: (onOver) => clock.after(Math.max(0, endMs - clock.nowMs()), onOver),
    }).pump();
  }

  #answerOne(request: unknown, exchange: Exchange, end: (response: BatchResponse) => void): void {
    if (request instanceof AmbiguousRequest) {
      end({ id: JSON.stringify(request.id), answer: this.#refuse(request.error, exchange) });
      return;
    }
    const readable =
      typeof request === 'object' && !Array.isArray(request) && prepare(request, exchange.path) ? request : null;
    this.#jayson.call(readable as jayson.JSONRPCRequest, exchange, (failed: unknown, response: unknown) => {
      const answered = (failed ?? response ?? undefined) as RpcResponse | undefined;
      if (answered === undefined) {
        end(undefined);
        return;
      }
      // Only jayson's own errors are not an AnswerMember.
      const answer =
        answered.result ??
        this.#refuse(new KatamariError('bad_request', `Invalid request: ${whatIsWrong(request)}`), exchange);
      end({ id: idText(answered.id, exchange.mark), answer });
    });
  }

  /** Counts a request without a call. */
  #refuse(error: KatamariError, exchange: Exchange): AnswerMember {
    this.#options.calls.enter(error.code);
    exchange.ending = { kind: 'refused', error };
    return refusedAnswer(error);
  }

  #targetOf(method: string, path: string): MethodName {
    const name = path === '' ? method : `${path}.${method}`;
    let target = this.#targets.get(name);
    if (target === undefined) {
      target = parseMethodName(name);
      if (name.length <= NAME_CHARS_MAX) this.#targets.set(name, target);
    }
    return target;
  }

  #methodOf(name: string): jayson.Method {
    const known = this.#methods.get(name);
    if (known !== undefined) return known;
    const handler = name.startsWith('rpc.') ? this.#ownMethod(name) : this.#meshMethod(name);
    const method = new jayson.Method(handler as jayson.MethodHandlerContext, { useContext: true });
    if (name.length <= NAME_CHARS_MAX) this.#methods.set(name, method);
    return method;
  }

  #meshMethod(name: string): JaysonHandler {
    const target = parseMethodName(name);
    return (params, exchange, done) => {
      this.#options.calls.begin(target, params, exchange, (answer) => done(null, answer));
    };
  }

  /** Returns the handler of a method whose name begins with `rpc.`, which JSON-RPC reserves. */
  #ownMethod(name: string): JaysonHandler {
    return (_params, exchange, done) => {
      if (name !== 'rpc.discover') {
        const why = `There is no method "${name}": the only method that begins with "rpc." is rpc.discover`;
        done(null, this.#refuse(new KatamariError('no_pool', why, { jsonRpcCode: METHOD_NOT_FOUND }), exchange));
        return;
      }
      this.#options.discover(exchange.path, exchange.identity).then(
        (text) => {
          this.#options.calls.enter('ok');
          done(null, textAnswer(`"result":${text}`));
        },
        (thrown: unknown) => done(null, this.#refuse(asKatamariError(thrown), exchange)),
      );
    };
  }
}

/** Returns an id as JSON text. A long integer was marked, see text.ts. */
function idText(id: unknown, mark: string): string {
  if (mark !== '' && typeof id === 'string' && id.startsWith(mark)) return id.slice(mark.length);
  return JSON.stringify(id ?? null);
}

function isPlainCall(request: unknown): request is SingleCall {
  if (typeof request !== 'object' || request === null || Array.isArray(request)) return false;
  const { jsonrpc, id, method, params } = request as Record<string, unknown>;
  return (
    jsonrpc === '2.0' &&
    typeof method === 'string' &&
    !method.startsWith('rpc.') &&
    (typeof id === 'string' || (typeof id === 'number' && Number.isFinite(id))) &&
    (params === undefined || (typeof params === 'object' && params !== null))
  );
}

/** Prepares a request for jayson. Returns false if a response cannot carry its id. */
function prepare(request: object | null, path: string): boolean {
  if (request === null) return false;
  const { id, method } = request as { id?: unknown; method?: unknown };
  if (id === null) {
    // jayson treats a null id as a notification. It accepts NaN, which JSON cannot contain and which is written as
    // null.
    (request as { id: unknown }).id = Number.NaN;
  } else if (typeof id === 'number' && !Number.isFinite(id)) {
    return false;
  }
  if (path !== '' && typeof method === 'string' && !method.startsWith('rpc.')) {
    (request as { method: unknown }).method = `${path}.${method}`;
  }
  return true;
}

function whatIsWrong(request: unknown): string {
  if (typeof request !== 'object' || request === null || Array.isArray(request)) {
    return `expected an object, got ${Array.isArray(request) ? 'an array' : shown(request)}`;
  }
  const { jsonrpc, method, id } = request as Record<string, unknown>;
  if (jsonrpc !== '2.0') return `jsonrpc: expected "2.0", got ${shown(jsonrpc)}`;
  if (typeof method !== 'string') return `method: expected a string, got ${shown(method)}`;
  if (
    id !== undefined &&
    typeof id !== 'string' &&
    (typeof id !== 'number' || id === Number.POSITIVE_INFINITY || id === -Infinity)
  ) {
    return `id: expected a string, a number or null, got ${typeof id === 'number' ? 'a number too large to answer' : shown(id)}`;
  }
  return `params: expected an object or an array, got ${shown((request as Record<string, unknown>)['params'])}`;
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text;
}

const METHODS_MAX = 2_000;
const NAME_CHARS_MAX = 300;
const SHOWN_CHARS = 60;
