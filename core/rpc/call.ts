// A call on its way and its reply, and the one function type everything that answers calls has, with a promise or
// without. Bytes of arguments and results are strict-binary Thrift structs and are passed through untouched.

import { asKatamariError, type ErrorCode, type KatamariError } from '../mod.ts';

/**
 * One request on its way. `args` is the argument struct in strict binary, stop byte included, without any CallContext.
 * Rooms that change a call make a shallow copy with `withCall`, so a call never changes under somebody's feet.
 */
export interface Call {
  /** Name of the service; '' when the client named none (then the one service that has the method is meant). */
  readonly service: string;
  readonly method: string;
  readonly oneway: boolean;
  readonly args: Uint8Array;
  /** When the call must have settled, in ms on this process's monotonic clock (`performance.now()`). Only shrinks. */
  readonly deadlineMs: number;
  /** Wanted version: exact, a SemVer range, or '' for what the route says. */
  readonly version: string;
  /** Wall: equal to the pool's roles or no match. */
  readonly roles: readonly string[];
  /** Preference: the pool that has most of them wins. */
  readonly tags: readonly string[];
  /** Any other detail asked for; a key on which pool and call differ excludes the pool. */
  readonly details: Readonly<Record<string, string>>;
  /** Sticky key: calls with equal keys go to the same version; '' for none. */
  readonly key: string;
  readonly traceparent: string;
  readonly tracestate: string;
  /**
   * What the client said beside the call in headers of its transport that mean nothing to the mesh; for the handler.
   */
  readonly headers: Readonly<Record<string, string>>;
  /** Who calls, for people: `thrift 127.0.0.1:50312`, `json-rpc 10.0.0.7`, `chassis Calculator@1.0.0/2`. */
  readonly caller: string;
  /** 0 for the first try. */
  readonly attempt: number;
  /** Refuse at once instead of waiting in a queue. */
  readonly doNotQueue: boolean;
  /** Aborted when the caller has gone. Usually one signal per connection, shared by all of its calls. */
  readonly signal: AbortSignal | undefined;
}

/** What a reply knows about how it came to be; travels as ReplyContext inside the mesh. */
export interface ReplyContext {
  /** Version that answered; '' when a peer did not say. */
  readonly version: string;
  readonly queueUs: number;
  readonly serviceUs: number;
  /** Free resources and queue length of the answering pool at that moment; -1 unknown. */
  readonly freeNow: number;
  readonly queuedNow: number;
  /** Name of the resource that did the work; '' unknown. */
  readonly resource: string;
}

/**
 * The answer to a call: the result struct (a value or a declared exception), or a TApplicationException struct that
 * the chassis itself sent. Errors of the mesh are never a Reply: they reject with KatamariError.
 */
export interface Reply {
  /** True: `body` is a TApplicationException struct from the chassis. False: the method's result struct. */
  readonly isException: boolean;
  /** Strict binary, stop byte included, without any ReplyContext. For oneway calls the empty struct (one stop byte). */
  readonly body: Uint8Array;
  readonly context: ReplyContext;
}

/** Everything that answers a call: the router, a pool, a link, a chassis. Rejects with KatamariError only. */
export type Dispatch = (call: Call) => Promise<Reply>;

/**
 * Takes the end of one call: exactly one of the two is called, once, perhaps before the sending has returned. Neither
 * throws.
 */
export interface CallSink {
  reply(reply: Reply): void;
  fail(error: KatamariError): void;
}

/**
 * A Dispatch without a promise, for the way that every call goes: a promise costs an object, a round of the engine's
 * queue at each step, and for a refused call more than the refusal.
 */
export type Send = (call: Call, sink: CallSink) => void;

/** A Send as a Dispatch. */
export function dispatchOf(send: Send): Dispatch {
  return (call) => new Promise((reply, fail) => send(call, { reply, fail }));
}

/** A Dispatch as a Send. */
export function sendOf(dispatch: Dispatch): Send {
  return (call, sink) => {
    dispatch(call).then(
      (reply) => sink.reply(reply),
      (thrown: unknown) => sink.fail(asKatamariError(thrown)),
    );
  };
}

/** A call with defaults for everything but what it is. */
export function createCall(what: Pick<Call, 'service' | 'method' | 'args' | 'deadlineMs'> & Partial<Call>): Call {
  return {
    service: what.service,
    method: what.method,
    oneway: what.oneway ?? false,
    args: what.args,
    deadlineMs: what.deadlineMs,
    version: what.version ?? '',
    roles: what.roles ?? NONE,
    tags: what.tags ?? NONE,
    details: what.details ?? NO_DETAILS,
    key: what.key ?? '',
    traceparent: what.traceparent ?? '',
    tracestate: what.tracestate ?? '',
    headers: what.headers ?? NO_DETAILS,
    caller: what.caller ?? '',
    attempt: what.attempt ?? 0,
    doNotQueue: what.doNotQueue ?? false,
    signal: what.signal,
  };
}

/**
 * A copy of a call with some fields changed. Field by field: a literal with two spreads takes the engine ten times as
 * long, and gives calls many hidden classes where this gives them one.
 */
export function withCall(call: Call, change: Partial<Omit<Call, 'signal'>>): Call {
  return {
    service: change.service ?? call.service,
    method: change.method ?? call.method,
    oneway: change.oneway ?? call.oneway,
    args: change.args ?? call.args,
    deadlineMs: change.deadlineMs ?? call.deadlineMs,
    version: change.version ?? call.version,
    roles: change.roles ?? call.roles,
    tags: change.tags ?? call.tags,
    details: change.details ?? call.details,
    key: change.key ?? call.key,
    traceparent: change.traceparent ?? call.traceparent,
    tracestate: change.tracestate ?? call.tracestate,
    headers: change.headers ?? call.headers,
    caller: change.caller ?? call.caller,
    attempt: change.attempt ?? call.attempt,
    doNotQueue: change.doNotQueue ?? call.doNotQueue,
    signal: call.signal,
  };
}

export const NO_REPLY_CONTEXT: ReplyContext = {
  version: '',
  queueUs: 0,
  serviceUs: 0,
  freeNow: -1,
  queuedNow: -1,
  resource: '',
};

/** The empty struct: a lone stop byte. Result of void methods and of accepted oneway calls. */
export const EMPTY_STRUCT: Uint8Array = Uint8Array.of(0);

/** How a settled call is counted. accepted = replied + failed + refused + timed_out + cancelled + in flight, always. */
export type CallOutcome = 'replied' | 'failed' | 'refused' | 'timed_out' | 'cancelled';

/** Outcome by code, for readers of statistics. */
export type CallResult = 'ok' | ErrorCode;

/** No roles, no tags. */
export const NONE: readonly string[] = Object.freeze([]);
/** No details, no headers. */
export const NO_DETAILS: Readonly<Record<string, string>> = Object.freeze({});

/** Whether a call asks for no detail; for each call, so without a list of keys. */
export function hasNoDetails({ details }: Pick<Call, 'details'>): boolean {
  for (const _ in details) return false;
  return true;
}
