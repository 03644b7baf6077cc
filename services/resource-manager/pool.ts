// A pool: resources with equal details and equal interface, and the queue of calls that wait for one of them. A freed
// or new resource serves the call that has waited longest; if several callers wait, they take turns (fair-queue.ts).
// The pool refuses calls beyond the queue limit, calls
// whose estimated wait exceeds their deadline, and calls that asked not to queue. It sends quick idempotent calls
// ahead to chassis that buffer calls (resource.ts). A call whose deadline passes or whose caller goes away leaves the
// queue and never reaches a chassis. A call that has cost a copy its life is refused for a while (suspect-calls.ts).

import { callerGone, WaitingCalls, watchCaller, type DeadlineWheel } from '../../core/link/mod.ts';
import { KatamariError, NO_COPY_UP, type Clock } from '../../core/mod.ts';
import {
  callerKeyOf,
  CallStats,
  isMirrorCopy,
  type Call,
  type CallResult,
  type CallSink,
  type PoolDetails,
  type Reply,
  type Send,
} from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { CallGroups, type GroupMember } from './call-groups.ts';
import { CopyPlaces } from './copy-places.ts';
import { FairQueue } from './fair-queue.ts';
import { ESTIMATE_CALLS_MIN, LatencySamples } from './latency-samples.ts';
import { Lease } from './lease.ts';
import type { Resource } from './resource.ts';
import { SuspectCalls } from './suspect-calls.ts';

export interface PoolOptions {
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly queueMax: number;
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** Returns the sink that a call gets in place of its own. */
  readonly watch?: ((call: Call, sink: CallSink) => CallSink) | undefined;
  /** Called when a resource joined or left. */
  readonly onAliveChanged?: () => void;
  /** Called when calls are refused because they have cost a copy its connection or its life. */
  readonly onRefusing?: (why: string) => void;
}

export class ResourcePool {
  readonly options: PoolOptions;
  readonly stats: CallStats = new CallStats();
  readonly suspects: SuspectCalls;
  /** All resources of the pool, free or busy, in order of arrival. */
  readonly #resources = new Set<Resource>();
  /**
   * Resources that can take a call, used last in, first out: the last one has warm caches, and a single client keeps
   * the same one.
   */
  readonly #free: Resource[] = [];
  readonly #queue: FairQueue<Lease>;
  /** Service times of recent calls by method; they show which waiting calls have too little time left. */
  readonly #samples = new Map<string, LatencySamples>();
  /** Places that copies of calls may take; undefined before the first copy. */
  #copyPlaces: CopyPlaces | undefined;
  /** Copies of one call; undefined before the first. */
  #groups: CallGroups | undefined;
  /** Such copies that wait while only chassis are free that another copy of the call has got. */
  readonly #passedOver = new WaitingCalls<Lease>(Number.POSITIVE_INFINITY);
  /** Smoothed service time in ms, for the estimate of a wait. */
  #serviceMs = 0;
  #served = 0;
  /** The last error for a full queue, and the figures in its text. */
  #lastFull: { readonly length: number; readonly queueMax: number; readonly error: KatamariError } | undefined;
  /** The last error for a call that found no free resource and asked not to wait. */
  #lastBusy: KatamariError | undefined;
  /** The error of calls that the pool does not take; undefined while it takes them. */
  #closedWith: KatamariError | undefined;

  constructor(options: PoolOptions) {
    this.options = options;
    const { id, clock, onRefusing = () => undefined } = options;
    this.suspects = new SuspectCalls({ pool: id, clock, onRefusing });
    this.#queue = new FairQueue(options.queueMax);
  }

  get free(): number {
    return this.#free.length;
  }

  get alive(): number {
    return this.#resources.size;
  }

  get queued(): number {
    return this.#queue.length + this.#passedOver.length;
  }

  /** Most calls that may wait. A change of the deployment can change it. */
  get queueMax(): number {
    return this.#queue.max;
  }

  set queueMax(queueMax: number) {
    this.#queue.max = queueMax;
  }

  /** Adds a ready chassis; it serves the longest waiting calls at once. */
  add(resource: Resource): void {
    this.#resources.add(resource);
    resource.onCapacity = () => (resource.hasCapacity ? this.onFreed(resource) : this.#unfree(resource));
    this.onFreed(resource);
    this.options.onAliveChanged?.();
  }

  /** Takes a resource out: it died, drains or is stopped. Its running calls continue. */
  remove(resource: Resource): void {
    if (!this.#resources.delete(resource)) return;
    resource.onCapacity = undefined;
    this.#unfree(resource);
    this.options.onAliveChanged?.();
  }

  /**
   * Closes the pool: waiting calls and later calls fail with `error`, usually `draining`, so that the caller can send
   * them elsewhere. Running calls continue.
   * @param otherPoolOf another pool of this manager for a waiting call, if there is one
   */
  close(error: KatamariError, otherPoolOf: (call: Call) => Send | undefined = () => undefined): void {
    this.#closedWith ??= error;
    const next = (): Lease | undefined => this.#passedOver.shift() ?? this.#queue.shift();
    for (let waiting = next(); waiting !== undefined; waiting = next()) {
      waiting.moveTo(otherPoolOf(waiting.call), error);
    }
  }

  /** Accepts a call: starts it, queues it or refuses it. */
  readonly send = (call: Call, caller: CallSink): void => {
    this.stats.accept();
    const { watch } = this.options;
    const nowMs = this.options.clock.nowMs();
    // A copy is never sent ahead of calls that come later.
    const isCopy = isMirrorCopy(call);
    const isQuick = !isCopy && this.isQuick(call.method);
    const isFirst = this.#queue.length === 0 && (!isCopy || this.#mayTakeCopy(nowMs));
    const member = call.group === '' ? undefined : (this.#groups ??= new CallGroups()).join(call, caller, nowMs);
    const resource = isFirst
      ? (this.#firstFree(member) ?? (isQuick ? this.#leastAhead(member) : undefined))
      : undefined;
    if (!isCopy) this.#copyPlaces?.accepted(this.stats.inFlight, nowMs);
    const own = isCopy ? new CopySink(this.#placesOfCopies(nowMs), caller) : (member ?? caller);
    const sink = watch === undefined ? own : watch(call, own);
    const refusal =
      this.#whyNotAccept(call, nowMs) ?? (resource === undefined ? this.#whyNotQueue(call, nowMs, member) : undefined);
    if (refusal !== undefined) {
      this.stats.settle(refusal.code, 0, 0);
      sink.fail(refusal);
      return;
    }
    const lease = new Lease(this, call, sink, nowMs, isQuick, member);
    lease.watchDeadline();
    // A call that starts at once runs to its end without its caller; a waiting call leaves with its caller.
    if (resource?.hasCapacity !== true) watchCaller(lease);
    if (resource !== undefined) this.#start(lease, resource);
    else if (isFirst && this.#free.length > 0) this.#passedOver.push(lease);
    else this.#queue.push(lease);
  };

  #start(lease: Lease, resource: Resource): void {
    lease.member?.take(resource);
    lease.start(resource);
  }

  /** Starts the longest waiting calls on `resource` until it is full; marks it as free when no call waits. */
  onFreed(resource: Resource): void {
    while (
      this.#resources.has(resource) &&
      (resource.hasCapacity || (this.#queue.head?.isQuick === true && resource.canSendAhead))
    ) {
      const waiting = this.#groups === undefined ? this.#queue.shift() : this.#nextFor(resource);
      if (waiting === undefined) {
        if (resource.hasCapacity && !this.#free.includes(resource)) this.#free.push(resource);
        return;
      }
      const refusal = this.#whyTooLate(waiting.call) ?? this.#whySuspect(waiting.call);
      if (refusal === undefined) this.#start(waiting, resource);
      else waiting.refuse(refusal);
    }
  }

  /** Takes the next waiting call from the queue that may have this resource. */
  #nextFor(resource: Resource): Lease | undefined {
    const { hasCapacity } = resource;
    for (let lease = this.#passedOver.head; lease !== undefined; lease = lease.next) {
      if (lease.member?.mayTake(resource) !== true || !(hasCapacity || lease.isQuick)) continue;
      this.#passedOver.remove(lease);
      return lease;
    }
    for (let head = this.#queue.head; head !== undefined; head = this.#queue.head) {
      if (!hasCapacity && !head.isQuick) return undefined;
      this.#queue.shift();
      if (head.member?.mayTake(resource) !== false) return head;
      this.#passedOver.push(head);
    }
    return undefined;
  }

  /** Puts a lease that did not run back at its old position, near the head of the queue. */
  requeue(lease: Lease): void {
    if (this.#closedWith !== undefined || isMirrorCopy(lease.call)) {
      lease.refuse(this.#closedWith ?? this.#busyError(RETRY_AFTER_STEP_MS));
      return;
    }
    this.#queue.putBack(lease);
    const resource = this.#firstFree(lease.member);
    if (resource !== undefined) this.onFreed(resource);
  }

  /**
   * Whether calls of a method may be sent ahead: the method is idempotent and its calls take no more than about 2 ms.
   */
  isQuick(method: string): boolean {
    return this.#samples.get(method)?.isQuick === true && this.isIdempotent(method);
  }

  isIdempotent(method: string): boolean {
    return this.options.interface.methods.get(method)?.isIdempotent === true;
  }

  /** Marks a resource as busy once it is full. */
  onTaken(resource: Resource): void {
    if (!resource.hasCapacity) this.#unfree(resource);
  }

  /** Takes a resource out of the pool, or out of use until its link is open again. */
  onLinkClosed(resource: Resource): void {
    if (resource.reopens) this.#unfree(resource);
    else this.remove(resource);
  }

  record(method: string, result: CallResult, totalMs: number, queueUs: number, serviceMs: number): void {
    this.stats.settle(result, totalMs, queueUs);
    if (result !== 'ok') return;
    let samples = this.#samples.get(method);
    if (samples === undefined) this.#samples.set(method, (samples = new LatencySamples()));
    samples.add(serviceMs);
    this.#served++;
    this.#serviceMs += (serviceMs - this.#serviceMs) / Math.min(this.#served, SMOOTHING_CALLS);
  }

  /** Expected service time of a call of this method in relation to the average of the pool. */
  costOf(method: string): number {
    const meanMs = this.#samples.get(method)?.meanMs ?? 0;
    return meanMs > 0 && this.#serviceMs > 0 ? meanMs / this.#serviceMs : 1;
  }

  /** Estimated wait in ms of a call that queues behind `ahead` others; 0 until enough calls were served. */
  #estimatedWaitMs(ahead: number): number {
    if (this.#served < ESTIMATE_CALLS_MIN || this.#resources.size === 0) return 0;
    let concurrency = 0;
    for (const resource of this.#resources) concurrency += resource.concurrency;
    return (this.#serviceMs * (ahead + 1)) / concurrency;
  }

  /**
   * The error for a call whose deadline passed before a resource began it.
   * @param waitedMs 0: the call arrived too late
   * @param mayHaveRun the call was sent ahead, and the chassis may have begun it while its previous reply was in
   * transit
   */
  timeoutInQueue(waitedMs: number, mayHaveRun = false): KatamariError {
    const { id } = this.options;
    const alive =
      this.#resources.size === 0 ? 'none of its resources is alive' : `its ${this.#resources.size} resources are busy`;
    const why =
      waitedMs === 0
        ? `The deadline had passed before the call reached ${id}`
        : `Waited ${Math.round(waitedMs)} ms in the queue of ${id}: ${alive}`;
    if (this.#resources.size === 0 && waitedMs > 0 && !mayHaveRun) return new KatamariError('timeout', why, NO_COPY_UP);
    return new KatamariError('timeout', why, { stage: 'queue', ...(mayHaveRun ? {} : { notRun: true }) });
  }

  /** Whether a copy may take a free place. */
  #mayTakeCopy(nowMs: number): boolean {
    let places = 0;
    for (const { concurrency, inFlight } of this.#free) places += concurrency - inFlight;
    return this.#placesOfCopies(nowMs).mayTake(places, this.stats.inFlight - 1, nowMs);
  }

  #placesOfCopies(nowMs: number): CopyPlaces {
    return (this.#copyPlaces ??= new CopyPlaces(this.stats.inFlight - 1, nowMs));
  }

  #firstFree(member: GroupMember | undefined): Resource | undefined {
    const free = member === undefined ? this.#free : this.#free.filter((resource) => member.mayTake(resource));
    let best = free.at(-1);
    // Balance calls over resources that run several at once. One that may still work on a oneway call comes last.
    if (best !== undefined && (best.concurrency > 1 || best.isLastChoice)) {
      for (const resource of free) if (isBetter(resource, best)) best = resource;
    }
    return best;
  }

  /** The busy resource that can be sent a call ahead and has the fewest calls. */
  #leastAhead(member: GroupMember | undefined): Resource | undefined {
    let best: Resource | undefined;
    for (const resource of this.#resources) {
      if (member?.mayTake(resource) === false) continue;
      if (resource.canSendAhead && (best === undefined || resource.inFlight < best.inFlight)) best = resource;
    }
    return best;
  }

  #unfree(resource: Resource): void {
    const index = this.#free.lastIndexOf(resource);
    if (index !== -1) this.#free.splice(index, 1);
  }

  /**
   * Refuses a call that waited and has less time left than the fastest recent call of its method took: it would be
   * cut off half-way and delay the next call for nothing. A call that finds a free resource always runs, so the pool
   * notices when a method becomes faster.
   */
  #whyTooLate(call: Call): KatamariError | undefined {
    const leftMs = call.deadlineMs - this.options.clock.nowMs();
    const needMs = this.#samples.get(call.method)?.shortest() ?? 0;
    if (leftMs >= needMs) return undefined;
    const why = `Waited in the queue of ${this.options.id} until ${Math.max(0, Math.floor(leftMs))} ms were left; recent calls of ${call.method} took ${Math.ceil(needMs)} ms or more`;
    return new KatamariError('timeout', why, { stage: 'queue', notRun: true });
  }

  #whyNotAccept(call: Call, nowMs: number): KatamariError | undefined {
    if (this.#closedWith !== undefined) return this.#closedWith;
    if (call.signal?.aborted === true) return callerGone();
    if (nowMs >= call.deadlineMs) return this.timeoutInQueue(0);
    return this.#whySuspect(call);
  }

  #whySuspect(call: Call): KatamariError | undefined {
    return this.suspects.isEmpty ? undefined : this.suspects.refusalOf(call, this.options.clock.nowMs());
  }

  #whyNotQueue(call: Call, nowMs: number, member: GroupMember | undefined): KatamariError | undefined {
    const ahead = this.#queue.length === 0 ? 0 : this.#queue.aheadOf(callerKeyOf(call));
    const waitMs = this.#estimatedWaitMs(ahead);
    // Rounded to coarse steps, so that many refused calls share one error object.
    const retryAfterMs = Math.max(1, Math.ceil(waitMs / RETRY_AFTER_STEP_MS)) * RETRY_AFTER_STEP_MS;
    if (call.doNotQueue) return this.#busyError(retryAfterMs);
    if (member?.isOneTooMany(this.#resources) === true) return this.#tooFewError(retryAfterMs);
    if (member !== undefined && this.#passedOver.length >= this.queueMax) return this.#fullError(retryAfterMs);
    if (waitMs > call.deadlineMs - nowMs) {
      const why = `Cannot queue for ${this.options.id}: the wait would be about ${Math.ceil(waitMs)} ms and the call has ${Math.floor(call.deadlineMs - nowMs)} ms left`;
      return new KatamariError('overloaded', why, { retryAfterMs, notRun: true });
    }
    if (!this.#queue.isFull) return undefined;
    const displaced = this.#queue.makeRoomFor(callerKeyOf(call));
    if (displaced === undefined) return this.#fullError(retryAfterMs);
    displaced.refuse(this.#displacedError(retryAfterMs));
    return undefined;
  }

  #displacedError(retryAfterMs: number): KatamariError {
    const { id } = this.options;
    const why = `Lost its place in the full queue of ${id} to another caller, because this caller has the most calls in it; try again in ${retryAfterMs} ms, send fewer calls at a time, or start more copies`;
    return new KatamariError('overloaded', why, { retryAfterMs, notRun: true });
  }

  /**
   * Reuses one error for all calls that meet the same full queue: building the text costs more than refusing the
   * call.
   */
  #fullError(retryAfterMs: number): KatamariError {
    const { length, max: queueMax } = this.#queue;
    const last = this.#lastFull;
    const isSame = last?.length === length && last.queueMax === queueMax;
    if (isSame && last.error.facts.retryAfterMs === retryAfterMs) return last.error;
    const why = `Cannot queue for ${this.options.id}: ${length} calls are waiting, limit is ${queueMax}; try again in ${retryAfterMs} ms or start more copies`;
    const error = new KatamariError('overloaded', why, { retryAfterMs, notRun: true });
    this.#lastFull = { length, queueMax, error };
    return error;
  }

  #tooFewError(retryAfterMs: number): KatamariError {
    const why = `Every chassis of ${this.options.id} has got a copy of this call already; start more copies`;
    return new KatamariError('overloaded', why, { retryAfterMs, notRun: true });
  }

  /** Reuses one error for `doNotQueue` calls too: routers send many of them while all resources are busy. */
  #busyError(retryAfterMs: number): KatamariError {
    if (this.#lastBusy?.facts.retryAfterMs === retryAfterMs) return this.#lastBusy;
    const why = `${this.options.id} has no free resource and the call asked not to wait`;
    return (this.#lastBusy = new KatamariError('overloaded', why, { retryAfterMs, notRun: true }));
  }
}

/** Counts a copy that the pool has. */
class CopySink implements CallSink {
  readonly #places: CopyPlaces;
  readonly #sink: CallSink;

  constructor(places: CopyPlaces, sink: CallSink) {
    this.#places = places;
    this.#sink = sink;
    places.began();
  }

  reply(reply: Reply): void {
    this.#places.ended();
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    this.#places.ended();
    this.#sink.fail(error);
  }
}

function isBetter(a: Resource, b: Resource): boolean {
  return a.isLastChoice === b.isLastChoice ? a.inFlight < b.inFlight : b.isLastChoice;
}

/** Number of calls over which the service time is smoothed. */
const SMOOTHING_CALLS = 64;
const RETRY_AFTER_STEP_MS = 50;
