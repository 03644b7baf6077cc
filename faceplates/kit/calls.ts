// Makes the calls of a faceplate: chooses the pool, encodes the arguments, sends the call, decodes the result. Each
// call is counted when it arrives and settled once when it ends. When its client disconnects, it ends at once. This
// is for faceplates that encode arguments themselves, for example from JSON. The Thrift faceplate passes bytes
// through and does not use it.
//
// A oneway call is answered as soon as the mesh has accepted it. It continues without its client, is counted when it
// ends, and `whenOnewaysEnd` waits for it.
//
// `begin` takes a callback and allocates no promise; `call` and `json` are the same with a promise.

import { decodeResult, encodeParams } from '../../core/idl/mod.ts';
import { systemClock, type ByteAccount, type Clock, asKatamariError, KatamariError } from '../../core/mod.ts';
import {
  ANONYMOUS,
  type ArgumentEncoder,
  createCall,
  EMPTY_STRUCT,
  NO_DETAILS,
  NO_REPLY_CONTEXT,
  type Call,
  type CallerIdentity,
  type CallResult,
  type CallSink,
  type ChosenPool,
  type Reply,
  type ReplyContext,
  type MeshAccess,
  type PoolQuery,
  type PoolView,
  type CallStats,
  type StatsTable,
  parseCallHeaders,
  type CallHeaders,
} from '../../core/rpc/mod.ts';
import { type Method, readApplicationException } from '../../core/thrift/mod.ts';
import type { MethodName } from './method-name.ts';

/** The method to call, the call options and the client. */
export interface FaceplateRequest {
  readonly target: MethodName;
  /** Version, timeout, sticky key, tags, roles and trace; none by default. */
  readonly headers?: CallHeaders;
  /** Name of the client, for logs: `json-rpc 10.0.0.7`. */
  readonly caller: string;
  /** Who makes the call. By default an anonymous caller, whose address is unknown: see `FaceplateContext.identify`. */
  readonly identity?: CallerIdentity;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal | undefined;
  /** When the request arrived, if it waited before its call began: its timeout runs from then. */
  readonly arrivedMs?: number | undefined;
  /** What the connection of the client holds: a oneway call that was answered is booked until it ends. */
  readonly account?: ByteAccount | undefined;
}

/**
 * Encodes arguments and decodes results by the interface of a pool. If the route of a service finds sticky keys in
 * arguments, they may be encoded for another version first.
 * @example
 * const codec: ArgumentCodec<{ ok: boolean; bytes: Uint8Array }> = {
 *   encode: (method, pool) => argumentsOf(method, pool),
 *   decode: (method, body) => ({ ok: true, bytes: body }),
 * };
 * const outcome = await calls.call(request, codec);
 */
export interface ArgumentCodec<Answer extends Answered> extends ArgumentEncoder {
  /** Reads the result struct. @throws KatamariError */
  decode(method: Method, body: Uint8Array): Answer;
}

/** `ok` is false for an exception that the method declares. Such an exception still counts as a reply. */
export interface Answered {
  readonly ok: boolean;
}

/**
 * A result or a declared exception as JSON values, by the table in docs/json-rpc.md.
 * @example
 * const text = answer.ok ? JSON.stringify(answer.value) : `${answer.exception}: ${answer.message}`;
 */
export type JsonAnswer =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly exception: string;
      /** Name and first text field of the exception: `InvalidOperation: Cannot divide by 0`. */
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

/**
 * How a call ended.
 * @example
 * if (outcome.kind === 'refused') throw outcome.error;
 * if (outcome.kind === 'failed') throw new KatamariError('resource_failed', outcome.message);
 * return outcome.answer;
 */
export type Outcome<Answer extends Answered> =
  /** The method returned a result or threw a declared exception. */
  | {
      readonly kind: 'answered';
      readonly answer: Answer;
      readonly version: string;
      readonly context: ReplyContext;
    }
  /** The handler threw an exception that the method does not declare. */
  | {
      readonly kind: 'failed';
      readonly message: string;
      readonly version: string;
      readonly context: ReplyContext;
    }
  /** The mesh refused the call or could not finish it. */
  | { readonly kind: 'refused'; readonly error: KatamariError };

export interface FaceplateCallsOptions {
  /** Name of the faceplate in the call statistics. */
  readonly name: string;
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly clock?: Clock;
}

/**
 * Sends calls with values instead of bytes, and counts them.
 * @example
 * const calls = new FaceplateCalls(context);
 * const target = parseMethodName('Calculator.add');
 * const outcome = await calls.json({ target, caller: `${context.name} ${address}`, signal }, { num1: 1, num2: 2 });
 */
export class FaceplateCalls {
  readonly #name: string;
  readonly #mesh: MeshAccess;
  readonly #callStats: StatsTable;
  readonly #clock: Clock;
  /** If true, all further calls are refused with `draining`. */
  isDraining = false;
  /** Oneway calls that were answered and have not ended. */
  #oneways = 0;
  #onOnewaysEnd: (() => void) | undefined;

  constructor({ name, mesh, callStats, clock = systemClock }: FaceplateCallsOptions) {
    this.#name = name;
    this.#mesh = mesh;
    this.#callStats = callStats;
    this.#clock = clock;
  }

  /** Calls with plain JSON values: params by name (object), by position (array) or none. Never rejects. */
  json(request: FaceplateRequest, params: unknown): Promise<Outcome<JsonAnswer>> {
    return this.call(request, { encode: (method) => encodeParams(method, params), decode: FaceplateCalls.readJson });
  }

  /** Calls with an encoding of your own. Never rejects. */
  call<Answer extends Answered>(request: FaceplateRequest, codec: ArgumentCodec<Answer>): Promise<Outcome<Answer>> {
    return new Promise((resolve) => this.begin(request, codec, resolve));
  }

  /** Like `call`, without a promise. Calls `end` once, possibly before it returns. `end` must not throw. */
  begin<Answer extends Answered>(
    request: FaceplateRequest,
    codec: ArgumentCodec<Answer>,
    end: (outcome: Outcome<Answer>) => void,
  ): void {
    this.#begin(request, codec, end, this.#clock.nowMs(), undefined);
  }

  /** @param waited statistics of a call that has waited for its pool, and was counted when it arrived */
  #begin<Answer extends Answered>(
    request: FaceplateRequest,
    codec: ArgumentCodec<Answer>,
    end: (outcome: Outcome<Answer>) => void,
    startedMs: number,
    waited: CallStats | undefined,
  ): void {
    const { target, headers = NO_HEADERS, signal, arrivedMs = startedMs, account } = request;
    let stats = waited;
    let pool: ChosenPool | undefined;
    let sent: FaceplateCall<Answer>;
    let call: Call;
    try {
      if (this.isDraining) throw draining();
      const identity = this.#identityOf(request);
      const query = queryOf(request, identity, codec);
      pool = this.#mesh.directory.choose(query);
      stats ??= this.#accept(pool.details.service, target.method);
      const method = pool.interface.methods.get(target.method);
      if (method === undefined) throw new KatamariError('no_pool', `${pool.id} has no method "${target.method}"`);
      if (signal?.aborted === true) throw gone();
      call = createCall({
        service: pool.details.service,
        method: method.name,
        oneway: method.oneway,
        args: pool.args ?? codec.encode(method, pool),
        deadlineMs: arrivedMs + Math.min(this.#mesh.timeoutMs(), headers.timeoutMs),
        version: pool.details.version,
        roles: headers.roles,
        tags: headers.tags,
        key: headers.key,
        minCoverage: headers.minCoverage,
        rule: pool.rule ?? (query.version === '' ? '' : undefined),
        traceparent: headers.traceparent,
        tracestate: headers.tracestate,
        caller: request.caller,
        identity,
        signal: method.oneway ? undefined : signal,
      });
      sent = new FaceplateCall({ pool, method, codec, stats, signal: call.signal, end, clock: this.#clock, startedMs });
    } catch (thrown) {
      const error = asKatamariError(thrown);
      if (pool === undefined && error.code === 'no_pool' && this.#wait(request, codec, end, startedMs, stats)) return;
      this.#refuse(error, end, startedMs, stats ?? this.#accept(...this.#statsKeyOf(target)));
      return;
    }
    this.#mesh.send(call, sent);
    if (call.oneway && !sent.isEnded) {
      const { length } = call.args;
      this.#oneways++;
      account?.add(length);
      sent.accept(() => {
        account?.add(-length);
        this.#onewayEnded();
      });
    }
  }

  /** Resolves when no oneway call is left, at the latest when the deadlines of all have passed. */
  async whenOnewaysEnd(): Promise<void> {
    if (this.#oneways === 0) return;
    await new Promise<void>((resolve) => {
      const stopTimer = this.#clock.after(this.#mesh.timeoutMs() + SETTLE_MS, resolve);
      this.#onOnewaysEnd = () => {
        stopTimer();
        resolve();
      };
    });
  }

  #onewayEnded(): void {
    if (--this.#oneways === 0) this.#onOnewaysEnd?.();
  }

  /** Lets a call wait for the first copy of its service. Returns false if the service is not deployed. */
  #wait<Answer extends Answered>(
    request: FaceplateRequest,
    codec: ArgumentCodec<Answer>,
    end: (outcome: Outcome<Answer>) => void,
    startedMs: number,
    waited: CallStats | undefined,
  ): boolean {
    const { target, headers = NO_HEADERS, signal, arrivedMs = startedMs } = request;
    let stats = waited;
    // The names of deployed services are bounded, those of methods are not.
    const accept = (): CallStats => this.#accept(target.service || '-', '-');
    const isWaiting = this.#mesh.directory.waitForCopy(queryOf(request, this.#identityOf(request), codec), {
      deadlineMs: arrivedMs + Math.min(this.#mesh.timeoutMs(), headers.timeoutMs),
      signal,
      doNotQueue: false,
      resume: () => this.#begin(request, codec, end, startedMs, stats),
      fail: (error) => this.#refuse(error, end, startedMs, (stats ??= accept())),
    });
    if (isWaiting) stats ??= accept();
    return isWaiting;
  }

  #refuse<Answer extends Answered>(
    error: KatamariError,
    end: (outcome: Outcome<Answer>) => void,
    startedMs: number,
    stats: CallStats,
  ): void {
    stats.settle(error.code, this.#clock.nowMs() - startedMs, 0);
    end({ kind: 'refused', error });
  }

  /** Counts a request that the faceplate refused or answered itself, before there was a call. */
  enter(result: CallResult): void {
    this.#accept('-', '-').settle(result, 0, 0);
  }

  /** Decodes a result struct to JSON values, for codecs that only encode differently. */
  static readJson(this: void, method: Method, body: Uint8Array): JsonAnswer {
    if (method.oneway) return { ok: true, value: null };
    const decoded = decodeResult(method, body);
    if (decoded.ok) return { ok: true, value: decoded.value };
    const { exception, fields } = decoded;
    return { ok: false, exception, message: exceptionMessage(exception, fields), fields };
  }

  #identityOf({ identity }: FaceplateRequest): CallerIdentity {
    return identity ?? this.#mesh.anonymous ?? ANONYMOUS;
  }

  #accept(service: string, method: string): CallStats {
    const stats = this.#callStats.of(this.#name, service, method);
    stats.accept();
    return stats;
  }

  /**
   * Returns the service and method under which a call without a pool is counted. Unknown names are counted as `-`;
   * otherwise clients could grow the statistics without limit.
   */
  #statsKeyOf({ service, method }: MethodName): [string, string] {
    const isKnown = this.#mesh.directory
      .pools()
      .some((pool) => pool.details.service === service && pool.interface.methods.has(method));
    return isKnown ? [service, method] : ['-', '-'];
  }
}

function queryOf(
  { target, headers = NO_HEADERS }: FaceplateRequest,
  identity: CallerIdentity,
  encoder: ArgumentEncoder,
): PoolQuery {
  return {
    service: target.service,
    method: target.method,
    version: target.version === '' ? headers.version : target.version,
    roles: headers.roles,
    tags: headers.tags,
    details: NO_DETAILS,
    key: headers.key,
    identity,
    headers: headers.all,
    encoder,
  };
}

/** The mesh settles every call by its deadline, and a little later at worst, in ms. */
const SETTLE_MS = 50;
const NO_HEADERS: CallHeaders = parseCallHeaders({});

interface FaceplateCallOptions<Answer extends Answered> {
  readonly pool: PoolView;
  readonly method: Method;
  readonly codec: ArgumentCodec<Answer>;
  readonly stats: CallStats;
  readonly signal: AbortSignal | undefined;
  readonly end: (outcome: Outcome<Answer>) => void;
  readonly clock: Clock;
  readonly startedMs: number;
}

/** A call in flight. The first of reply, error and disconnect of the client ends it. Later ones are ignored. */
class FaceplateCall<Answer extends Answered> implements CallSink {
  readonly #options: FaceplateCallOptions<Answer>;
  #isEnded = false;
  /** Set for a oneway call that was answered when it was accepted; called when it ends. */
  #onAcceptedEnd: (() => void) | undefined;

  constructor(options: FaceplateCallOptions<Answer>) {
    this.#options = options;
    options.signal?.addEventListener('abort', this);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Answers a oneway call, which the mesh has accepted. It is counted when it ends. */
  accept(onEnd: () => void): void {
    const { pool, method, codec, end } = this.#options;
    this.#onAcceptedEnd = onEnd;
    const { version } = pool.details;
    const answer = codec.decode(method, EMPTY_STRUCT);
    end({ kind: 'answered', answer, version, context: { ...NO_REPLY_CONTEXT, version } });
  }

  reply(reply: Reply): void {
    if (this.#isEnded) return;
    const { pool, method, codec, stats } = this.#options;
    let outcome: Outcome<Answer>;
    let result: CallResult = 'ok';
    try {
      outcome = outcomeOf(pool, method, reply, codec);
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

  /** The 'abort' event: the client has disconnected. */
  handleEvent(): void {
    this.fail(gone());
  }

  #end(result: CallResult, queueUs: number, outcome: Outcome<Answer>): void {
    this.#isEnded = true;
    const { stats, signal, clock, startedMs, end } = this.#options;
    signal?.removeEventListener('abort', this);
    stats.settle(result, clock.nowMs() - startedMs, queueUs);
    if (this.#onAcceptedEnd === undefined) end(outcome);
    else this.#onAcceptedEnd();
  }
}

function outcomeOf<Answer extends Answered>(
  pool: PoolView,
  method: Method,
  reply: Reply,
  codec: ArgumentCodec<Answer>,
): Outcome<Answer> {
  const { context } = reply;
  const version = context.version || pool.details.version;
  if (!reply.isException) {
    return { kind: 'answered', answer: codec.decode(method, reply.body), version, context };
  }
  const { message } = readException(pool, reply.body);
  return { kind: 'failed', message, version, context };
}

/** @throws KatamariError resource_failed if the exception cannot be decoded, which is the fault of the chassis */
function readException(pool: PoolView, body: Uint8Array): { readonly message: string } {
  try {
    return readApplicationException(body);
  } catch (thrown) {
    const { message } = asKatamariError(thrown);
    throw new KatamariError(
      'resource_failed',
      `${pool.id} sent an exception that cannot be decoded: ${message}`,
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
