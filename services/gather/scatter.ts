// Sends one call to a replica of each shard and collects the replies. A request that fails is repeated at other
// managers, one that is slow is sent to a second one, and the first reply counts. It ends when all shards have
// answered or cannot, when the caller has enough, or a little before the deadline with what there is.

import { Alarm } from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type MethodLatencies } from '../../core/mod.ts';
import type { Call, Reply } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { type Lack, LACK, type MissingShard } from './coverage.ts';
import type { GatherTools } from './gather-tools.ts';
import { ANSWER_BYTES_MAX, EXTRA_WAIT_SHARE, TRIES_MAX } from './limits.ts';
import { planRequests, type PlannedRequest } from './plan.ts';
import { isCallersFault, lossOfError, lossOfException, lossOfReply, type RequestLoss } from './request-loss.ts';
import { type ShardAnswer, ShardGroup } from './shard-group.ts';
import type { ShardServer, ServedIndex } from './shard-map.ts';
import { type RequestOwner, ShardRequest } from './shard-request.ts';
import { type EarlierTries, NEVER_ASKED, ShardWaits } from './shard-waits.ts';

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

export class Scatter implements RequestOwner {
  readonly tools: GatherTools;
  readonly options: ScatterOptions;
  readonly latencies: MethodLatencies;
  readonly #answers: ShardAnswer[] = [];
  readonly #missing: MissingShard[] = [];
  readonly #groups = new Set<ShardGroup>();
  readonly #waits: ShardWaits;
  #index: ServedIndex;
  /** Managers that were asked for a shard, by place. */
  readonly #asked = new Map<number, readonly ShardServer[]>();
  readonly #endAlarm: Alarm;
  #extraAlarm: Alarm | undefined;
  /** Shards that have neither answered nor failed. */
  #open: number;
  #answered = 0;
  #answerBytes = 0;
  /** Requests that followed no failure. */
  #firstRequests = 0;
  #retried = 0;
  #hedged = 0;
  #isEnded = false;

  constructor(tools: GatherTools, options: ScatterOptions) {
    this.tools = tools;
    this.options = options;
    this.latencies = tools.latencies.of(options.index.id, options.method.name);
    this.#open = options.places.length;
    this.#index = options.index;
    this.#waits = new ShardWaits(tools.replicaWaits);
    this.#endAlarm = new Alarm(options.call.deadlineMs, () => this.#finish());
  }

  start(): void {
    const { places, call } = this.options;
    if (call.signal?.aborted === true) return this.#fail(callerLeft());
    call.signal?.addEventListener('abort', this.#onCallerGone);
    this.tools.deadlines.add(this.#endAlarm);
    this.#request(places, NEVER_ASKED);
    this.#check();
  }

  /** A request has been answered. */
  answered(request: ShardRequest, reply: Reply): void {
    if (this.#isEnded) return;
    const { body, isException } = reply;
    if (isException) return this.#lost(request, lossOfException(body));
    const hasValue = body[0] !== 0;
    if (hasValue && (body[1] !== 0 || body[2] !== 0)) return this.#end({ kind: 'exception', reply });
    const { manager } = request.holder;
    if (!hasValue) return this.#lost(request, lossOfReply(`${manager} returned no value`, false));
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
      return this.#lost(request, lossOfReply(why, true));
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
    if (isCallersFault(error)) return this.#fail(error);
    this.#lost(request, lossOfError(error, request.group.tries, request.holder.isReachable));
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
    const { requests, unplaced } = planRequests(this.#index, places, call.key, nowMs, this.#mayAsk);
    if (unplaced.length > 0 || !this.tools.hedges.take(requests.length)) return false;
    group.isHedged = true;
    this.#hedged += requests.length;
    this.tools.counts.requests.hedge += requests.length;
    // All of them are in the group before one may fail.
    for (const one of requests.map((planned) => this.#prepare(planned, group))) one.send(false);
    return true;
  }

  /** A request has brought nothing. Its shards are asked for again, or are missing. */
  #lost(request: ShardRequest, { lack, why, mayRetry, isFree, isOfCopy }: RequestLoss): void {
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

  /** Asks for shards. */
  #request(places: readonly number[], before: EarlierTries): void {
    const requests = this.#plan(places, before);
    const { tools, options } = this;
    if (before.tries === 0) {
      try {
        options.checkRequests?.((this.#firstRequests += requests.length));
      } catch (error) {
        return this.#fail(asKatamariError(error));
      }
      tools.retries.called(requests.length);
    }
    tools.hedges.sent(requests.length);
    tools.counts.requests[before.tries === 0 ? 'first' : 'retry'] += requests.length;
    // Every shard is in a group before one may fail, so that none is forgotten at the end.
    const prepared = requests.map((planned) => {
      const group = new ShardGroup(planned.places, before.tries + 1);
      this.#groups.add(group);
      return this.#prepare(planned, group);
    });
    for (const one of prepared) one.send(true);
  }

  /** Plans requests for shards. Those without a manager wait for one, or are missing. */
  #plan(places: readonly number[], before: EarlierTries): readonly PlannedRequest[] {
    const { index, call } = this.options;
    const { clock, replicaWaits } = this.tools;
    const nowMs = clock.nowMs();
    let { requests, unplaced } = planRequests(this.#index, places, call.key, nowMs, this.#mayAsk);
    if (before.isOfCopy && unplaced.length > 0) {
      const again = planRequests(this.#index, unplaced, call.key, nowMs, () => true);
      requests = [...requests, ...again.requests];
      unplaced = again.unplaced;
    }
    if (unplaced.length > 0) this.#waitFor(unplaced, before);
    if (replicaWaits.hasMissing)
      for (const one of requests) replicaWaits.found(one.places.map((place) => index.names[place] as string));
    return requests;
  }

  #prepare(planned: PlannedRequest, group: ShardGroup): ShardRequest {
    // All shards of a first request share one list.
    const only = [planned.holder];
    for (const place of planned.places) {
      const asked = this.#asked.get(place);
      this.#asked.set(place, asked === undefined ? only : [...asked, planned.holder]);
    }
    return new ShardRequest(this, group, planned);
  }

  /** Waits for replicas of the shards that no manager serves now, and gives up the others. */
  #waitFor(places: readonly number[], before: EarlierTries): void {
    const { index, call } = this.options;
    const waiting = call.doNotQueue ? [] : this.#waits.worthWaitingFor(places, this.#index);
    const others = places.filter((place) => !waiting.includes(place));
    if (others.length > 0) this.#giveUp(others, before.lack, before.why);
    if (waiting.length === 0) return;
    this.#waits.add({ places: waiting, before }, () => {
      this.#index = index.again() ?? this.#index;
      // A manager that has come back may be asked again.
      for (const place of waiting) this.#asked.delete(place);
      this.#request(waiting, before);
      this.#check();
    });
  }

  readonly #mayAsk = (holder: ShardServer, place: number): boolean => this.#asked.get(place)?.includes(holder) !== true;

  #giveUp(places: readonly number[], lack: Lack, why: string): void {
    this.#open -= places.length;
    for (const place of places) {
      const shard = this.options.index.names[place] as string;
      const failure = lack === LACK.noReplica ? this.#index.failures.get(shard) : undefined;
      this.#missing.push({ shard, lack, why: failure ?? why });
    }
  }

  /** Ends when nothing more can come, and soon after the caller has enough. */
  #check(): void {
    if (this.#isEnded) return;
    const { minCoverage, places, call, isEnough } = this.options;
    const wanted = minCoverage * places.length;
    // So many shards cannot be reached any more, unless one of them is enough.
    const isLost = isEnough === undefined && this.#answered + this.#open < wanted;
    if (this.#open === 0 || isLost) return this.#finish(!isLost);
    // Who needs no more shards does not wait for replicas.
    if (!this.#waits.isEmpty && this.#groups.size === 0 && this.#answered > 0 && this.#answered >= wanted)
      return this.#finish();
    if (this.#extraAlarm !== undefined || this.#answered === 0 || this.#answered < wanted) return;
    const { clock, deadlines } = this.tools;
    const nowMs = clock.nowMs();
    this.#extraAlarm = new Alarm(nowMs + (call.deadlineMs - nowMs) * EXTRA_WAIT_SHARE, () => this.#finish());
    deadlines.add(this.#extraAlarm);
  }

  /** @param isLate false when it ends because too many shards are missing */
  #finish(isLate = true): void {
    if (this.#isEnded) return;
    for (const group of this.#groups) {
      const { why, lack } = group.openAs(isLate);
      this.#giveUp(group.places, lack, why);
    }
    for (const { places, before } of this.#waits.waiting) this.#giveUp(places, before.lack, before.why);
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
    this.#waits.end();
    for (const group of this.#groups) group.cancel();
    this.#groups.clear();
    this.options.onEnd(end);
  }

  readonly #onCallerGone = (): void => this.#fail(callerLeft());
}

function callerLeft(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone');
}
