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
import { KatamariError } from '../../core/mod.ts';
import type { CallerIdentity } from '../../core/rpc/mod.ts';
import { parseMethodName, type MethodName } from '../kit/mod.ts';
import type { JsonRpcAnswer, JsonRpcCalls, Exchange } from './calls.ts';
import { METHOD_NOT_FOUND, rpcErrorOf, type RpcError } from './rpc-error.ts';
import { unmarked } from './text.ts';

export interface RpcOptions {
  readonly calls: JsonRpcCalls;
  readonly batchMax: number;
  /** Returns the OpenRPC document of the mesh, or of one `Service[@version]`. */
  readonly discover: (path: string, identity: CallerIdentity) => unknown;
}

/** A response as jayson returns it. */
interface RpcResponse {
  readonly jsonrpc: string;
  readonly id: unknown;
  readonly result?: unknown;
  error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

/** A well-formed request with an id, for the fast path. */
interface SingleCall {
  readonly id: string | number;
  readonly method: string;
  readonly params?: object;
}

type Done = (error: RpcError | null, result?: unknown) => void;
type JaysonHandler = (params: unknown, exchange: Exchange, done: Done) => void;

export class Rpc {
  readonly #calls: JsonRpcCalls;
  readonly #batchMax: number;
  readonly #discover: RpcOptions['discover'];
  readonly #jayson: jayson.Server;
  /**
   * Handlers by method name, because jayson does not pass the name to a handler. Clients choose the names, so the
   * cache is bounded.
   */
  readonly #methods = new LRUCache<string, jayson.Method>({ max: METHODS_MAX });
  readonly #targets = new LRUCache<string, MethodName>({ max: METHODS_MAX });

  constructor({ calls, batchMax, discover }: RpcOptions) {
    this.#calls = calls;
    this.#batchMax = batchMax;
    this.#discover = discover;
    this.#jayson = new jayson.Server({}, { router: (name) => this.#methodOf(name) });
  }

  /**
   * Answers a request. Calls `end` with the text of the response ('' for none), or `fail` if a batch is refused as a
   * whole. Either may be called before this returns.
   */
  answer(request: unknown, exchange: Exchange, end: (text: string) => void, fail: (thrown: unknown) => void): void {
    if (isPlainCall(request) && exchange.mark === '') {
      const { id, method, params } = request;
      this.#calls.begin(this.#targetOf(method, exchange.path), params, exchange, (answer) => end(textOf(id, answer)));
      return;
    }
    this.#answerAny(request, exchange).then(end, fail);
  }

  async #answerAny(request: unknown, exchange: Exchange): Promise<string> {
    const answered = Array.isArray(request)
      ? await this.#answerBatch(request, exchange)
      : await this.#answerOne(request, exchange);
    return answered === undefined ? '' : unmarked(JSON.stringify(answered), exchange.mark);
  }

  async #answerBatch(requests: readonly unknown[], exchange: Exchange): Promise<unknown> {
    if (requests.length === 0) throw new KatamariError('bad_request', 'Invalid request: the batch is empty');
    if (requests.length > this.#batchMax) {
      throw new KatamariError(
        'too_large',
        `Batch is too long: ${requests.length} requests, limit is ${this.#batchMax}`,
      );
    }
    const answers = await Promise.all(requests.map((request) => this.#answerOne(request, exchange)));
    const toSend = answers.filter((answer) => answer !== undefined);
    return toSend.length === 0 ? undefined : toSend;
  }

  #answerOne(request: unknown, exchange: Exchange): Promise<RpcResponse | undefined> {
    const readable =
      typeof request === 'object' && !Array.isArray(request) && prepare(request, exchange.path) ? request : null;
    return new Promise((resolve) => {
      this.#jayson.call(readable as jayson.JSONRPCRequest, exchange, (error: unknown, response: unknown) => {
        const answered = (error ?? response ?? undefined) as RpcResponse | undefined;
        // Only jayson's own errors have no data.
        if (answered?.error !== undefined && answered.error.data === undefined) {
          const refusal = new KatamariError('bad_request', `Invalid request: ${whatIsWrong(request)}`);
          this.#calls.enter('bad_request');
          exchange.ending = { kind: 'refused', error: refusal };
          answered.error = rpcErrorOf(refusal);
        }
        resolve(answered);
      });
    });
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
      this.#calls.begin(target, params, exchange, (answer) => {
        if (answer.error === undefined) done(null, answer.result);
        else done(answer.error);
      });
    };
  }

  /** Returns the handler of a method whose name begins with `rpc.`, which JSON-RPC reserves. */
  #ownMethod(name: string): JaysonHandler {
    return (_params, exchange, done) => {
      try {
        if (name !== 'rpc.discover') {
          throw new KatamariError(
            'no_pool',
            `There is no method "${name}": the only method that begins with "rpc." is rpc.discover`,
            {
              jsonRpcCode: METHOD_NOT_FOUND,
            },
          );
        }
        const document = this.#discover(exchange.path, exchange.identity);
        this.#calls.enter('ok');
        done(null, document);
      } catch (thrown) {
        if (!(thrown instanceof KatamariError)) throw thrown;
        this.#calls.enter(thrown.code);
        exchange.ending = { kind: 'refused', error: thrown };
        done(rpcErrorOf(thrown));
      }
    };
  }
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

/** Returns the text of a response. The members have the same order as in jayson's responses. */
function textOf(id: string | number, answer: JsonRpcAnswer): string {
  return answer.error === undefined
    ? `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${JSON.stringify(answer.result ?? null)}}`
    : `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"error":${JSON.stringify(answer.error)}}`;
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
