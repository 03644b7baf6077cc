// Sends one call to a replica of each shard and collects the replies. A request that fails is repeated at other
// managers, one that is slow is sent to a second one, and the first reply counts. It ends when all shards have
// answered or cannot, when the caller has enough, or a little before the deadline with what there is.

import { CallSignal, type DeadlineWheel } from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type Clock, type RetryBudget } from '../../core/mod.ts';
import { NO_DETAILS, NONE, type Call, type CallSink, type Reply } from '../../core/rpc/mod.ts';
import { APPLICATION_EXCEPTION, readApplicationException, type Method } from '../../core/thrift/mod.ts';
import { Alarm } from './alarm.ts';
import { type Lack, LACK, type MissingShard } from './coverage.ts';
import type { GatherCounts } from './gather-counts.ts';
import type { HedgeBudget } from './hedge-budget.ts';
import type { RequestLatencies } from './latencies.ts';
import {
  ANSWER_BYTES_MAX,
  EXTRA_WAIT_SHARE,
  HEDGE_AGAIN_MS,
  HEDGE_MIN_MS,
  HEDGE_UNKNOWN_MAX_MS,
  HEDGE_UNKNOWN_SHARE,
  TRIES_MAX,
} from './limits.ts';
import { planRequests, type PlannedRequest } from './plan.ts';
import type { ShardServer, ServedIndex } from './shard-map.ts';
import { type ShardAnswer, ShardGroup } from './shard-group.ts';
import type { ReplicaWaits } from './replica-waits.ts';
import type { StatisticsCache } from './statistics-cache.ts';

/** What all gathered calls of a process share. */
export interface GatherTools {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  readonly retries: RetryBudget;
  readonly hedges: HedgeBudget;
  readonly latencies: RequestLatencies;
  readonly statistics: StatisticsCache;
  readonly replicaWaits: ReplicaWaits;
  readonly counts: GatherCounts;
}

export interface ScatterOptions {
  readonly index: ServedIndex;
  readonly method: Method;
  /** Shards to ask, at least one. */
  readonly places: readonly number[];
  /** Deadline, caller and headers of the requests; its signal ends them. */
  readonly call: Call;
  /** Returns the arguments of a request for some shards, by full name. */
  readonly argsFor: (names: readonly string[]) => Uint8Array;
  /** Share of the shards with which it may end before all have answered. */
  readonly minCoverage: number;
  /**
   * Reads the value of a result. A reply that cannot be read counts as a failure of its manager.
   * @param isWhole whether the reply is of all shards of the call
   */
  readonly decode: (body: Uint8Array, isWhole: boolean) => unknown;
  /** Whether a value is enough for the whole call. */
  readonly isEnough?: (value: unknown) => boolean;
  /** Refuses a call that needs too many requests. @throws KatamariError */
  readonly checkRequests?: (count: number) => void;
  readonly onEnd: (end: ScatterEnd) => void;
}

/** How a scatter ends with what the shards have answered. */
export interface AnsweredScatter {
  readonly kind: 'answered';
  readonly answers: readonly ShardAnswer[];
  /** Shards without an answer. */
  readonly missing: readonly MissingShard[];
  readonly retried: number;
  readonly hedged: number;
}

export type ScatterEnd =
  | AnsweredScatter
  /** A content server threw a declared exception: the reply for the caller. */
  | { readonly kind: 'exception'; readonly reply: Reply }
  | { readonly kind: 'failed'; readonly error: KatamariError };

export class Scatter {
  readonly tools: GatherTools;
  readonly options: ScatterOptions;
  readonly #answers: ShardAnswer[] = [];
  readonly #missing: MissingShard[] = [];
  readonly #groups = new Set<ShardGroup>();
  /** Shards that wait for a replica, and what ends their wait. */
  readonly #waits = new Map<() => void, LostTry & { readonly places: readonly number[] }>();
  #index: ServedIndex;
  /** Managers that were asked for a shard, by place. */
  readonly #asked = new Map<number, Set<ShardServer>>();
  readonly #endAlarm: Alarm;
  #extraAlarm: Alarm | undefined;
  /** Shards that have neither answered nor failed. */
  #open: number;
  #answered = 0;
  #answerBytes = 0;
  #retried = 0;
  #hedged = 0;
  #isEnded = false;

  constructor(tools: GatherTools, options: ScatterOptions) {
    this.tools = tools;
    this.options = options;
    this.#open = options.places.length;
    this.#index = options.index;
    this.#endAlarm = new Alarm(options.call.deadlineMs, () => this.#finish());
  }

  start(): void {
    const { places, call } = this.options;
    if (call.signal?.aborted === true) return this.#fail(callerLeft());
    call.signal?.addEventListener('abort', this.#onCallerGone);
    this.tools.deadlines.add(this.#endAlarm);
    try {
      this.#request(places, undefined);
      this.#check();
    } catch (error) {
      this.#fail(asKatamariError(error));
    }
  }

  /** A request has been answered. */
  answered(request: ShardRequest, reply: Reply): void {
    if (this.#isEnded) return;
    const { body, isException } = reply;
    if (isException) {
      const { message, type } = exceptionIn(body);
      // The files of this replica may be damaged.
      const mayRetry = type === APPLICATION_EXCEPTION.internalError;
      return this.lost(request, { lack: LACK.failed, why: message, mayRetry });
    }
    const hasValue = body[0] !== 0;
    if (hasValue && (body[1] !== 0 || body[2] !== 0)) return this.#end({ kind: 'exception', reply });
    const { manager } = request.holder;
    if (!hasValue)
      return this.lost(request, { lack: LACK.failed, why: `${manager} returned no value`, mayRetry: false });
    this.#answerBytes += body.length;
    if (this.#answerBytes > ANSWER_BYTES_MAX) {
      const why = `The answers of the shards have more than ${ANSWER_BYTES_MAX} bytes, limit is ${ANSWER_BYTES_MAX}; ask for less`;
      return this.#fail(new KatamariError('too_large', why));
    }
    let value: unknown;
    try {
      value = this.options.decode(body, request.places.length === this.options.places.length);
    } catch (error) {
      const why = `the reply of ${manager} cannot be decoded: ${(error as Error).message}`;
      return this.lost(request, { lack: LACK.failed, why, mayRetry: true });
    }
    const { queueUs, serviceUs } = reply.context;
    const answer = { places: request.places, body, value, queueUs, serviceUs };
    const answers = request.group.answered(request, answer);
    if (answers === undefined) return;
    this.#groups.delete(request.group);
    for (const one of answers) {
      this.#answers.push(one);
      this.#open -= one.places.length;
      this.#answered += one.places.length;
    }
    if (this.options.isEnough?.(value) === true) return this.#finish();
    this.#check();
  }

  /** A request has failed. */
  failed(request: ShardRequest, error: KatamariError): void {
    if (this.#isEnded) return;
    const { code, message, facts } = error;
    if (CALLERS_FAULT.has(code)) return this.#fail(error);
    if (code === 'timeout') return this.lost(request, { lack: LACK.timedOut, why: message, mayRetry: false });
    // A query that costs a copy its life may cost the next one its life too, so it gets one more try only.
    const isSuspect = facts.isSuspect === true && request.group.tries > 1;
    this.lost(request, {
      lack: code === 'overloaded' ? LACK.overloaded : LACK.failed,
      why: message,
      mayRetry: code !== 'internal' && !isSuspect,
      isFree: facts.notRun === true,
      isOfCopy: code === 'resource_failed' && request.holder.isReachable,
    });
  }

  /**
   * A request is slower than most: its shards are asked for at other managers too.
   * @returns false when that is not possible now
   */
  hedge(request: ShardRequest): boolean {
    const { group, places } = request;
    if (this.#isEnded || group.isHedged) return true;
    const { call } = this.options;
    const nowMs = this.tools.clock.nowMs();
    const { requests, unplaced } = planRequests(this.#index, places, call.key, nowMs, (holder, place) =>
      this.#mayAsk(holder, place),
    );
    if (unplaced.length > 0 || !this.tools.hedges.take(requests.length)) return false;
    group.isHedged = true;
    this.#hedged += requests.length;
    this.tools.counts.requests.hedge += requests.length;
    // All of them are in the group before one may fail.
    for (const one of requests.map((planned) => this.#prepare(planned, group))) one.send(false);
    return true;
  }

  /** A request has brought nothing. Its shards are asked for again, or are missing. */
  lost(request: ShardRequest, { lack, why, mayRetry, isFree = false, isOfCopy = false }: RequestLoss): void {
    if (this.#isEnded) return;
    const { group } = request;
    if (!group.lost(request)) return;
    this.#groups.delete(group);
    const { clock, retries } = this.tools;
    const hasTime = clock.nowMs() < this.options.call.deadlineMs;
    if (mayRetry && hasTime && group.tries < TRIES_MAX && (isFree || retries.take())) {
      this.#retried++;
      this.#request(group.places, { lack, why, tries: group.tries, isOfCopy });
    } else this.#giveUp(group.places, lack, why);
    this.#check();
  }

  /** Asks for shards. @param before the failure of an earlier try */
  #request(places: readonly number[], before: LostTry | undefined): void {
    const { index, call } = this.options;
    const nowMs = this.tools.clock.nowMs();
    const plan = planRequests(this.#index, places, call.key, nowMs, (holder, place) => this.#mayAsk(holder, place));
    const again =
      before?.isOfCopy === true && plan.unplaced.length > 0
        ? planRequests(this.#index, plan.unplaced, call.key, nowMs, () => true)
        : { requests: [], unplaced: plan.unplaced };
    if (again.unplaced.length > 0) this.#waitFor(again.unplaced, before ?? NEVER_ASKED);
    const requests = [...plan.requests, ...again.requests];
    if (this.tools.replicaWaits.hasMissing)
      for (const one of requests)
        this.tools.replicaWaits.found(one.places.map((place) => index.names[place] as string));
    if (before === undefined) this.options.checkRequests?.(requests.length);
    this.tools.hedges.sent(requests.length);
    if (before === undefined) this.tools.retries.called(requests.length);
    this.tools.counts.requests[before === undefined ? 'first' : 'retry'] += requests.length;
    // Every shard is in a group before one may fail, so that none is forgotten at the end.
    const prepared = requests.map((planned) => {
      const group = new ShardGroup(planned.places, (before?.tries ?? 0) + 1);
      this.#groups.add(group);
      return this.#prepare(planned, group);
    });
    for (const one of prepared) one.send(true);
  }

  #prepare(planned: PlannedRequest, group: ShardGroup): ShardRequest {
    for (const place of planned.places) {
      const asked = this.#asked.get(place);
      if (asked === undefined) this.#asked.set(place, new Set([planned.holder]));
      else asked.add(planned.holder);
    }
    return new ShardRequest(this, group, planned);
  }

  /** Waits for replicas of the shards that no manager serves now, and gives up the others. */
  #waitFor(places: readonly number[], before: LostTry): void {
    const { index, call } = this.options;
    const { replicaWaits } = this.tools;
    const isWaiting = (place: number): boolean =>
      !call.doNotQueue &&
      this.#index.holders[place]?.some(({ isReachable }) => isReachable) !== true &&
      replicaWaits.mayWait(index.names[place] as string);
    const waiting = places.filter(isWaiting);
    const others = places.filter((place) => !waiting.includes(place));
    if (others.length > 0) this.#giveUp(others, before.lack, before.why);
    if (waiting.length === 0) return;
    const stop = replicaWaits.add(() => {
      this.#waits.delete(stop);
      this.#index = index.again() ?? this.#index;
      // A manager that has come back may be asked again.
      for (const place of waiting) this.#asked.delete(place);
      this.#request(waiting, before);
      this.#check();
    });
    this.#waits.set(stop, { ...before, places: waiting });
  }

  #mayAsk(holder: ShardServer, place: number): boolean {
    return this.#asked.get(place)?.has(holder) !== true;
  }

  #giveUp(places: readonly number[], lack: Lack, why: string): void {
    this.#open -= places.length;
    for (const place of places) this.#missing.push({ shard: this.options.index.names[place] as string, lack, why });
  }

  /** Ends when nothing more can come, and soon after the caller has enough. */
  #check(): void {
    if (this.#isEnded) return;
    const { minCoverage, places, call, isEnough } = this.options;
    const wanted = minCoverage * places.length;
    // So many shards cannot be reached any more, unless one of them is enough.
    const isLost = isEnough === undefined && this.#answered + this.#open < wanted;
    if (this.#open === 0 || isLost) return this.#finish();
    // Who needs no more shards does not wait for replicas.
    if (this.#waits.size > 0 && this.#groups.size === 0 && this.#answered > 0 && this.#answered >= wanted)
      return this.#finish();
    if (this.#extraAlarm !== undefined || this.#answered === 0 || this.#answered < wanted) return;
    const { clock, deadlines } = this.tools;
    const nowMs = clock.nowMs();
    this.#extraAlarm = new Alarm(nowMs + (call.deadlineMs - nowMs) * EXTRA_WAIT_SHARE, () => this.#finish());
    deadlines.add(this.#extraAlarm);
  }

  #finish(): void {
    if (this.#isEnded) return;
    for (const group of this.#groups) {
      const { why, lack } = group.openAs();
      this.#giveUp(group.places, lack, why);
    }
    for (const { places, lack, why } of this.#waits.values()) this.#giveUp(places, lack, why);
    const { length } = this.#answers;
    if (length > 1) this.#answers.sort((a, b) => (a.places[0] as number) - (b.places[0] as number));
    this.#end({
      kind: 'answered',
      answers: this.#answers,
      missing: this.#missing,
      retried: this.#retried,
      hedged: this.#hedged,
    });
  }

  #fail(error: KatamariError): void {
    this.#end({ kind: 'failed', error });
  }

  #end(end: ScatterEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { deadlines } = this.tools;
    deadlines.remove(this.#endAlarm);
    if (this.#extraAlarm !== undefined) deadlines.remove(this.#extraAlarm);
    this.options.call.signal?.removeEventListener('abort', this.#onCallerGone);
    for (const stop of this.#waits.keys()) stop();
    this.#waits.clear();
    for (const group of this.#groups) group.cancel();
    this.#groups.clear();
    this.options.onEnd(end);
  }

  readonly #onCallerGone = (): void => this.#fail(callerLeft());
}

interface RequestLoss {
  readonly lack: Lack;
  readonly why: string;
  readonly mayRetry: boolean;
  /** Whether it certainly did not run, so that another try needs no budget. */
  readonly isFree?: boolean;
  /** Whether another copy of the same manager may answer. */
  readonly isOfCopy?: boolean;
}

/** A try that has failed. */
interface LostTry {
  readonly lack: Lack;
  readonly why: string;
  readonly tries: number;
  /** Whether another copy of the same manager may answer. */
  readonly isOfCopy: boolean;
}

const NEVER_ASKED: LostTry = {
  lack: LACK.noReplica,
  why: 'no manager that can be reached serves it',
  tries: 0,
  isOfCopy: false,
};

/** One request to one manager. */
class ShardRequest implements CallSink {
  readonly group: ShardGroup;
  readonly holder: ShardServer;
  readonly places: readonly number[];
  readonly #scatter: Scatter;
  readonly #sentMs: number;
  /** An AbortController for each request would cost more than everything else of it. */
  readonly #end = new CallSignal();
  #alarm: Alarm | undefined;
  #isSettled = false;

  constructor(scatter: Scatter, group: ShardGroup, { holder, places }: PlannedRequest) {
    this.#scatter = scatter;
    this.group = group;
    this.holder = holder;
    this.places = places;
    this.#sentMs = scatter.tools.clock.nowMs();
    holder.inFlight++;
    group.add(this);
  }

  send(mayHedge: boolean): void {
    // Another one may have ended the call, or lost this group.
    if (this.#isSettled) return;
    const { tools, options } = this.#scatter;
    const { offer } = this.holder;
    if (mayHedge) {
      const unknownMs = Math.min(HEDGE_UNKNOWN_MAX_MS, (options.call.deadlineMs - this.#sentMs) * HEDGE_UNKNOWN_SHARE);
      this.#hedgeAt(this.#sentMs + Math.max(HEDGE_MIN_MS, tools.latencies.p95Ms(this.#key) ?? unknownMs));
    }
    const { index, argsFor, call, method } = options;
    try {
      const args = argsFor(this.places.map((place) => index.names[place] as string));
      offer.send(requestCall(call, method.name, offer.details, args, this.#end), this);
    } catch (error) {
      this.fail(asKatamariError(error));
    }
  }

  reply(reply: Reply): void {
    if (!this.#settle()) return;
    const { clock, latencies } = this.#scatter.tools;
    const key = this.#key;
    const nowMs = clock.nowMs();
    const tookMs = nowMs - this.#sentMs;
    this.holder.slowness.answered(tookMs, latencies.usualMs(key), nowMs);
    latencies.add(key, tookMs);
    this.#scatter.answered(this, reply);
  }

  fail(error: KatamariError): void {
    if (!this.#settle()) return;
    if (!CALLERS_FAULT.has(error.code)) this.holder.slowness.failed(this.#scatter.tools.clock.nowMs());
    this.#scatter.failed(this, error);
  }

  cancel(): void {
    if (!this.#settle()) return;
    const { clock, latencies } = this.#scatter.tools;
    const nowMs = clock.nowMs();
    this.holder.slowness.abandoned(nowMs - this.#sentMs, latencies.usualMs(this.#key), nowMs);
    this.#end.abort(callEnded());
  }

  /** A copy that hangs would cost the whole time of the call, so a hedge that is not possible yet is tried again. */
  #hedgeAt(atMs: number): void {
    const { clock, deadlines } = this.#scatter.tools;
    this.#alarm = new Alarm(atMs, () => {
      if (!this.#scatter.hedge(this) && !this.#isSettled) this.#hedgeAt(clock.nowMs() + HEDGE_AGAIN_MS);
    });
    deadlines.add(this.#alarm);
  }

  get #key(): string {
    return `${this.#scatter.options.index.id}.${this.#scatter.options.method.name}`;
  }

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.holder.inFlight--;
    if (this.#alarm !== undefined) this.#scatter.tools.deadlines.remove(this.#alarm);
    return true;
  }
}

/** The call of a request: that of the caller, to the pool of a content service. */
function requestCall(
  call: Call,
  method: string,
  {
    service,
    version,
    roles,
  }: { readonly service: string; readonly version: string; readonly roles: readonly string[] },
  args: Uint8Array,
  signal: AbortSignal,
): Call {
  return {
    service,
    method,
    oneway: false,
    args,
    deadlineMs: call.deadlineMs,
    version,
    roles,
    tags: NONE,
    details: NO_DETAILS,
    key: call.key,
    traceparent: call.traceparent,
    tracestate: call.tracestate,
    headers: call.headers,
    caller: call.caller,
    identity: call.identity,
    attempt: call.attempt,
    doNotQueue: call.doNotQueue,
    minCoverage: undefined,
    signal,
  };
}

/** A TApplicationException, which a content server may have written wrongly. */
function exceptionIn(body: Uint8Array): { readonly message: string; readonly type: number } {
  try {
    return readApplicationException(body);
  } catch {
    return { message: 'it sent an exception that cannot be decoded', type: 0 };
  }
}

function callEnded(): KatamariError {
  return new KatamariError('cancelled', 'The call has ended without this reply');
}

function callerLeft(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone');
}

/** Every replica would answer the same. */
const CALLERS_FAULT: ReadonlySet<string> = new Set([
  'bad_request',
  'too_large',
  'denied',
  'refused_as_poison',
  'cancelled',
]);
