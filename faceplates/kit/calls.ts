// One call of a front on its way through the mesh: pool, bytes of the arguments, dispatch, value of the result; entered in the book
// when it comes and settled once when it ends, at once when its client has gone. Talks to the MeshDoor only. For fronts that make the
// bytes themselves (from JSON, from an HTTP request); those that pass bytes through, as Thrift does, have ways of their own.
//
// There is one way, without promises (`begin`), and the same with one on top (`call`).

import { decodeResult, encodeParams } from '../../core/idl/mod.ts';
import { systemClock, type Clock, asKatamariError, KatamariError } from '../../core/mod.ts';
import {
  createCall,
  NO_DETAILS,
  type Call,
  type CallResult,
  type CallSink,
  type Reply,
  type ReplyContext,
  type MeshAccess,
  type PoolView,
  type CallStats,
  type StatsTable,
  parseCallHeaders,
  type CallHeaders,
} from '../../core/rpc/mod.ts';
import { type Method, readApplicationException } from '../../core/thrift/mod.ts';
import type { MethodName } from './method-name.ts';

/** What is asked for, and by whom. */
export interface FaceplateRequest {
  readonly target: MethodName;
  /** Version, time, sticky key and the like; nothing unless told. */
  readonly wishes?: CallHeaders;
  /** For people: `json-rpc 10.0.0.7`. */
  readonly caller: string;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal | undefined;
}

/** How values become arguments and a result becomes a value, by the interface of the pool that was chosen. */
export interface ArgumentCodec<Answer extends Answered> {
  /** The argument struct in strict binary. @throws KatamariError bad_request */
  encode(method: Method, pool: PoolView): Uint8Array;
  /** From the result struct. @throws KatamariError */
  decode(method: Method, body: Uint8Array): Answer;
}

/** Not ok: an exception that the method declares. It counts as a reply all the same. */
export interface Answered {
  readonly ok: boolean;
}

/** A result or a declared exception as JSON values, by the table of docs/json-rpc.md. */
export type JsonAnswer =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly exception: string;
      /** Its name and the first text in it: `InvalidOperation: Cannot divide by 0`. */
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

/** How a call ended. */
export type Outcome<Answer extends Answered> =
  /** The method answered. */
  | {
      readonly kind: 'answered';
      readonly answer: Answer;
      readonly version: string;
      readonly context: ReplyContext;
    }
  /** The chassis said that it failed, which the method does not declare. */
  | {
      readonly kind: 'failed';
      readonly message: string;
      readonly version: string;
      readonly context: ReplyContext;
    }
  /** The mesh refused it or could not finish it. */
  | { readonly kind: 'refused'; readonly error: KatamariError };

export interface FaceplateCallsOptions {
  /** Of the front, in the book. */
  readonly name: string;
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly clock?: Clock;
}

export class FaceplateCalls {
  readonly #name: string;
  readonly #mesh: MeshAccess;
  readonly #book: StatsTable;
  readonly #clock: Clock;
  /** New calls are refused from now on. */
  isDraining = false;

  constructor({ name, mesh, book, clock = systemClock }: FaceplateCallsOptions) {
    this.#name = name;
    this.#mesh = mesh;
    this.#book = book;
    this.#clock = clock;
  }

  /** A call with plain JSON values: params by name (object), by position (array) or none. Settles always; never rejects. */
  json(asked: FaceplateRequest, params: unknown): Promise<Outcome<JsonAnswer>> {
    return this.call(asked, { encode: (method) => encodeParams(method, params), decode: FaceplateCalls.readJson });
  }

  /** Settles with an outcome always; never rejects. */
  call<Answer extends Answered>(asked: FaceplateRequest, reading: ArgumentCodec<Answer>): Promise<Outcome<Answer>> {
    return new Promise((resolve) => this.begin(asked, reading, resolve));
  }

  /** Calls `end` with an outcome, once, perhaps before this returns. `end` must not throw. */
  begin<Answer extends Answered>(
    asked: FaceplateRequest,
    reading: ArgumentCodec<Answer>,
    end: (outcome: Outcome<Answer>) => void,
  ): void {
    const startedMs = this.#clock.nowMs();
    const { target, wishes = NO_WISHES, signal } = asked;
    let stats: CallStats | undefined;
    let work: FaceplateCall<Answer>;
    let call: Call;
    try {
      if (this.isDraining) throw draining();
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
      if (signal?.aborted === true) throw gone();
      call = createCall({
        service: pool.details.service,
        method: method.name,
        oneway: method.oneway,
        args: reading.encode(method, pool),
        deadlineMs: startedMs + Math.min(this.#mesh.timeoutMs(), wishes.timeoutMs),
        version: pool.details.version,
        roles: wishes.roles,
        tags: wishes.tags,
        key: wishes.key,
        traceparent: wishes.traceparent,
        tracestate: wishes.tracestate,
        caller: asked.caller,
        signal,
      });
      work = new FaceplateCall({ pool, method, reading, stats, signal, end, clock: this.#clock, startedMs });
    } catch (thrown) {
      const error = asKatamariError(thrown);
      stats ??= this.#accept(...this.#pageOf(target));
      stats.settle(error.code, this.#clock.nowMs() - startedMs, 0);
      end({ kind: 'refused', error });
      return;
    }
    this.#mesh.send(call, work);
  }

  /** Enters what came in and was refused (or answered by the front itself) before there was a call. */
  enter(result: CallResult): void {
    this.#accept('-', '-').settle(result, 0, 0);
  }

  /** The JSON values of a result struct, for callers of `call` that encode in a way of their own. */
  static readJson(this: void, method: Method, body: Uint8Array): JsonAnswer {
    if (method.oneway) return { ok: true, value: null };
    const decoded = decodeResult(method, body);
    if (decoded.ok) return { ok: true, value: decoded.value };
    const { exception, fields } = decoded;
    return { ok: false, exception, message: exceptionMessage(exception, fields), fields };
  }

  #accept(service: string, method: string): CallStats {
    const stats = this.#book.of(this.#name, service, method);
    stats.accept();
    return stats;
  }

  /** Where a call is entered that no pool was chosen for: under its name when the mesh has that service and method at all. */
  #pageOf({ service, method }: MethodName): [string, string] {
    const isKnown = this.#mesh.directory
      .pools()
      .some((pool) => pool.details.service === service && pool.interface.methods.has(method));
    return isKnown ? [service, method] : ['-', '-'];
  }
}

const NO_WISHES: CallHeaders = parseCallHeaders({});

interface FaceplateCallOptions<Answer extends Answered> {
  readonly pool: PoolView;
  readonly method: Method;
  readonly reading: ArgumentCodec<Answer>;
  readonly stats: CallStats;
  readonly signal: AbortSignal | undefined;
  readonly end: (outcome: Outcome<Answer>) => void;
  readonly clock: Clock;
  readonly startedMs: number;
}

/** A call that was sent: its reply, its error, or that its client has gone, whichever is first. What the mesh still says then is of no interest. */
class FaceplateCall<Answer extends Answered> implements CallSink {
  readonly #options: FaceplateCallOptions<Answer>;
  #isEnded = false;

  constructor(options: FaceplateCallOptions<Answer>) {
    this.#options = options;
    options.signal?.addEventListener('abort', this);
  }

  reply(reply: Reply): void {
    if (this.#isEnded) return;
    const { pool, method, reading, stats } = this.#options;
    let outcome: Outcome<Answer>;
    let result: CallResult = 'ok';
    try {
      outcome = outcomeOf(pool, method, reply, reading);
      if (outcome.kind === 'failed' || (outcome.kind === 'answered' && !outcome.answer.ok)) stats.exceptions++;
    } catch (thrown) {
      const error = asKatamariError(thrown);
      result = error.code;
      outcome = { kind: 'refused', error };
    }
    this.#end(result, reply.context.queueUs, outcome);
  }

  fail(error: KatamariError): void {
    if (!this.#isEnded) this.#end(error.code, 0, { kind: 'refused', error });
  }

  /** The client has gone. */
  handleEvent(): void {
    this.fail(gone());
  }

  #end(result: CallResult, queueUs: number, outcome: Outcome<Answer>): void {
    this.#isEnded = true;
    const { stats, signal, clock, startedMs, end } = this.#options;
    signal?.removeEventListener('abort', this);
    stats.settle(result, clock.nowMs() - startedMs, queueUs);
    end(outcome);
  }
}

function outcomeOf<Answer extends Answered>(
  pool: PoolView,
  method: Method,
  reply: Reply,
  reading: ArgumentCodec<Answer>,
): Outcome<Answer> {
  const { context } = reply;
  const version = context.version || pool.details.version;
  if (!reply.isException) {
    return { kind: 'answered', answer: reading.decode(method, reply.body), version, context };
  }
  const { message } = readException(pool, reply.body);
  return { kind: 'failed', message, version, context };
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

function exceptionMessage(exception: string, fields: Readonly<Record<string, unknown>>): string {
  const text = fields['message'] ?? Object.values(fields).find((value) => typeof value === 'string');
  return typeof text === 'string' && text !== '' ? `${exception}: ${text}` : exception;
}

function gone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone');
}

function draining(): KatamariError {
  return new KatamariError('draining', 'This faceplate is stopping: send the call again, another one will take it', {
    notRun: true,
  });
}
