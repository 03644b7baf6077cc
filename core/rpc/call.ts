// Call and Reply, and the function types of everything that answers calls: Dispatch (with a promise) and Send (with a
// callback object). Arguments and results are strict-binary Thrift structs and are passed through unchanged.

import { asKatamariError, type ErrorCode, type KatamariError } from '../mod.ts';
import { ANONYMOUS, type CallerIdentity } from './caller-identity.ts';
import type { ShardCoverage } from './reply-info.ts';

/** One request. A call is immutable; `withCall` returns a changed copy. */
export interface Call {
  /** Name of the service. '' when the client named none; the router then takes the only service with the method. */
  readonly service: string;
  readonly method: string;
  readonly oneway: boolean;
  /** Argument struct in strict binary, including the stop byte, without a CallContext. */
  readonly args: Uint8Array;
  /** Time by which the call must end, in ms on this process's monotonic clock (`performance.now()`). Never extended. */
  readonly deadlineMs: number;
  /** Requested version: exact, a SemVer range, or '' to follow the route. */
  readonly version: string;
  /** Isolation: only pools with exactly these roles match. */
  readonly roles: readonly string[];
  /** Preference: the pool with the most of these tags wins. */
  readonly tags: readonly string[];
  /** Other requested details. A pool that has a different value for one of the keys does not match. */
  readonly details: Readonly<Record<string, string>>;
  /** Affinity key: calls with equal keys go to the same version; '' for none. */
  readonly key: string;
  readonly traceparent: string;
  readonly tracestate: string;
  /** Headers of the client's request that have no meaning to the mesh, for the handler. */
  readonly headers: Readonly<Record<string, string>>;
  /** Caller, for logs: `thrift 127.0.0.1:50312`, `json-rpc 10.0.0.7`, `chassis Calculator@1.0.0/2`. */
  readonly caller: string;
  /** Who makes the call, as proved to the mesh. The access policy decides by it. */
  readonly identity: CallerIdentity;
  /** 0 for the first try. */
  readonly attempt: number;
  /** Refuse at once instead of waiting in a queue. */
  readonly doNotQueue: boolean;
  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter of the method;
   * undefined if the caller did not set it.
   */
  readonly minCoverage: number | undefined;
  /** Rule by which a route has chosen the version; '' for its weights, undefined if no route has chosen it. */
  readonly rule: string | undefined;
  /** Copies of one call have the same text. A pool gives them to different chassis. '' for a call without copies. */
  readonly group: string;
  /** Aborted when the caller cancels the call or disconnects. The calls of a connection may share one signal. */
  readonly signal: AbortSignal | undefined;
}

/** Where and how fast a call ran. Travels as ReplyContext inside the mesh. */
export interface ReplyContext {
  /** Version of the pool that answered; '' if unknown. */
  readonly version: string;
  readonly queueUs: number;
  readonly serviceUs: number;
  /** Free resources and queue length of the pool when it answered; -1 if unknown. */
  readonly freeNow: number;
  readonly queuedNow: number;
  /** Name of the resource that ran the call; '' if unknown. */
  readonly resource: string;
  /** Shards that the call was about, and those that are wholly in the answer; only of an index. */
  readonly coverage?: ShardCoverage;
  /** The rule of a route that has chosen the version, if it was not the weights. */
  readonly rule?: string;
}

/**
 * The reply to a call: the result struct (a value or a declared exception), or a TApplicationException that the
 * chassis sent. Errors of the mesh are not replies: the Dispatch rejects with a KatamariError.
 */
export interface Reply {
  /** True: `body` is a TApplicationException struct from the chassis. False: the method's result struct. */
  readonly isException: boolean;
  /**
   * Strict binary including the stop byte, without a ReplyContext. The empty struct (one stop byte) for oneway calls.
   */
  readonly body: Uint8Array;
  readonly context: ReplyContext;
}

/** Answers a call. The router, a pool, a link and a chassis are each a Dispatch. Rejects only with KatamariError. */
export type Dispatch = (call: Call) => Promise<Reply>;

/**
 * Receives the end of one call. Exactly one method is called, exactly once, possibly before `send` returns. Neither
 * throws.
 */
export interface CallSink {
  reply(reply: Reply): void;
  fail(error: KatamariError): void;
}

/**
 * A Dispatch without a promise, for the hot path. At each step a promise costs an object and a microtask. For a
 * refused call that is more than the refusal itself.
 */
export type Send = (call: Call, sink: CallSink) => void;

/** Wraps a Send as a Dispatch. */
export function dispatchOf(send: Send): Dispatch {
  return (call) => new Promise((reply, fail) => send(call, { reply, fail }));
}

/** Wraps a Dispatch as a Send. */
export function sendOf(dispatch: Dispatch): Send {
  return (call, sink) => {
    dispatch(call).then(
      (reply) => sink.reply(reply),
      (thrown: unknown) => sink.fail(asKatamariError(thrown)),
    );
  };
}

/** Creates a call; fields that are not given get their defaults. */
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
    identity: what.identity ?? ANONYMOUS,
    attempt: what.attempt ?? 0,
    doNotQueue: what.doNotQueue ?? false,
    minCoverage: what.minCoverage,
    rule: what.rule,
    group: what.group ?? '',
    signal: what.signal,
  };
}

/**
 * Copies a call with some fields changed. The copy is written field by field: an object literal with two spreads takes
 * ten times as long and gives calls many hidden classes instead of one.
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
    identity: change.identity ?? call.identity,
    attempt: change.attempt ?? call.attempt,
    doNotQueue: change.doNotQueue ?? call.doNotQueue,
    minCoverage: change.minCoverage ?? call.minCoverage,
    rule: change.rule ?? call.rule,
    group: change.group ?? call.group,
    signal: call.signal,
  };
}

/** The context of a reply about which nothing is known. */
export const NO_REPLY_CONTEXT: ReplyContext = {
  version: '',
  queueUs: 0,
  serviceUs: 0,
  freeNow: -1,
  queuedNow: -1,
  resource: '',
};

/** The empty struct, a single stop byte. It is the result of void methods and of accepted oneway calls. */
export const EMPTY_STRUCT: Uint8Array = Uint8Array.of(0);

/**
 * The counter of an ended call. At any time accepted = replied + failed + refused + timed_out + cancelled + in
 * flight.
 */
export type CallOutcome = 'replied' | 'failed' | 'refused' | 'timed_out' | 'cancelled';

/** How a call ended: `ok` or its error code. */
export type CallResult = 'ok' | ErrorCode;

/** No roles, no tags. */
export const NONE: readonly string[] = Object.freeze([]);
/** No details, no headers. */
export const NO_DETAILS: Readonly<Record<string, string>> = Object.freeze({});

/** Whether a call requests no details. Runs for every call, so it does not allocate a list of keys. */
export function hasNoDetails({ details }: Pick<Call, 'details'>): boolean {
  for (const _ in details) return false;
  return true;
}
