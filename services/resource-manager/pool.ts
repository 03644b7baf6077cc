// A pool: resources with equal details and interface, and the queue of calls that wait for one. First come, first served; a freed or new
// resource serves the longest waiter. Refuses: calls beyond the queue's limit, calls that would wait past their deadline, calls that
// asked not to queue. Quick calls that may run twice are sent ahead to chassis that keep a line (resource.ts). A call whose deadline passes or
// whose caller has gone leaves the queue and never reaches a chassis.

import type { DeadlineWheel } from '../../core/link/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import {
  CallStats,
  type Call,
  type CallResult,
  type CallSink,
  type PoolDetails,
  type Send,
} from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { CallQueue } from './call-queue.ts';
import { ESTIMATE_CALLS_MIN, LatencySamples } from './latency-samples.ts';
import { callerGone, Lease } from './lease.ts';
import type { Resource } from './resource.ts';

export interface PoolOptions {
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly queueMax: number;
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** A resource came or went. */
  readonly onAliveChanged?: () => void;
}

export class ResourcePool {
  readonly options: PoolOptions;
  readonly stats: CallStats = new CallStats();
  /** All resources that are in the pool, free or not, in the order in which they came. */
  readonly #resources = new Set<Resource>();
  /** Those with a free place. The one that was freed last is used first: its caches are warm, and a lone client keeps meeting it. */
  readonly #free: Resource[] = [];
  readonly #queue = new CallQueue();
  /** How long the last calls of each method took, for calls that waited so long that they cannot be answered any more. */
  readonly #recent = new Map<string, LatencySamples>();
  /** Smoothed service time, in ms, for the estimate of a wait. */
  #serviceMs = 0;
  #served = 0;
  /** What the last call that found the queue full was told, and what it depends on. */
  #full: { readonly length: number; readonly queueMax: number; readonly error: KatamariError } | undefined;
  /** What the last call was told that found none free and was not to wait. */
  #busy: KatamariError | undefined;
  /** Why it takes no more calls; '' while it does. */
  #whyClosed = '';
  /** Calls that may wait; the deployment may change it while the pool stays. */
  queueMax: number;

  constructor(options: PoolOptions) {
    this.options = options;
    this.queueMax = options.queueMax;
  }

  get free(): number {
    return this.#free.length;
  }

  get alive(): number {
    return this.#resources.size;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** A chassis was introduced: it serves the longest waiters at once. */
  add(resource: Resource): void {
    this.#resources.add(resource);
    this.onFreed(resource);
    this.options.onAliveChanged?.();
  }

  /** A resource takes no further call: it died, drains or is stopped. What it works on goes on. */
  remove(resource: Resource): void {
    if (!this.#resources.delete(resource)) return;
    this.#unfree(resource);
    this.options.onAliveChanged?.();
  }

  /**
   * The whole pool goes away: what still waits is refused, to be sent elsewhere, and so is what comes later. What it works on goes on.
   * @param elsewhere another pool here for a call that waits, if there is one
   */
  close(why: string, elsewhere: (call: Call) => Send | undefined = () => undefined): void {
    if (this.#whyClosed === '') this.#whyClosed = why;
    for (let waiting = this.#queue.shift(); waiting !== undefined; waiting = this.#queue.shift()) {
      waiting.leaveFor(elsewhere(waiting.call), new KatamariError('draining', why, { notRun: true }));
    }
  }

  /** The way into this pool. */
  readonly send = (call: Call, sink: CallSink): void => {
    this.stats.accept();
    const nowMs = this.options.clock.nowMs();
    const isQuick = this.isQuick(call.method);
    const isFirst = this.#queue.length === 0;
    const resource = isFirst ? (this.#firstFree() ?? (isQuick ? this.#shortestLine() : undefined)) : undefined;
    const refusal =
      this.#whyNotTake(call, nowMs) ?? (resource === undefined ? this.#whyNotQueue(call, nowMs) : undefined);
    if (refusal !== undefined) {
      this.stats.settle(refusal.code, 0, 0);
      sink.fail(refusal);
      return;
    }
    const lease = new Lease(this, call, sink, nowMs, isQuick);
    lease.watchDeadline();
    // One that is at work at once goes on without its caller; all others leave with him.
    if (resource?.hasPlace !== true) lease.watchCaller();
    if (resource === undefined) this.#queue.push(lease);
    else lease.start(resource);
  };

  /** A place in `resource` is free: the longest waiter gets it, else it waits among the free ones. */
  onFreed(resource: Resource): void {
    while (
      this.#resources.has(resource) &&
      (resource.hasPlace || (this.#queue.head?.isQuick === true && resource.hasPlaceAhead))
    ) {
      const waiting = this.#queue.shift();
      if (waiting === undefined) {
        if (!this.#free.includes(resource)) this.#free.push(resource);
        return;
      }
      const refusal = this.#whyHopeless(waiting.call);
      if (refusal === undefined) waiting.start(resource);
      else waiting.refuse(refusal);
    }
  }

  /** A lease that has not run after all goes back to where it was in the queue, near its head. */
  requeue(lease: Lease): void {
    if (this.#whyClosed !== '') {
      lease.refuse(new KatamariError('draining', this.#whyClosed, { notRun: true }));
      return;
    }
    this.#queue.putBack(lease);
    const resource = this.#firstFree();
    if (resource !== undefined) this.onFreed(resource);
  }

  leave(lease: Lease): void {
    this.#queue.remove(lease);
  }

  /** Whether calls of a method may be sent ahead: they may run twice, and take no time to speak of. */
  isQuick(method: string): boolean {
    if (this.#recent.get(method)?.isQuick !== true) return false;
    return this.options.interface.methods.get(method)?.isIdempotent === true;
  }

  /** Bookkeeping for a resource whose last place was taken. */
  onTaken(resource: Resource): void {
    if (!resource.hasPlace) this.#unfree(resource);
  }

  record(method: string, result: CallResult, totalMs: number, queueUs: number, serviceMs: number): void {
    this.stats.settle(result, totalMs, queueUs);
    if (result !== 'ok') return;
    let recent = this.#recent.get(method);
    if (recent === undefined) this.#recent.set(method, (recent = new LatencySamples()));
    recent.add(serviceMs);
    this.#served++;
    this.#serviceMs += (serviceMs - this.#serviceMs) / Math.min(this.#served, SMOOTHING_CALLS);
  }

  /** Estimated wait of a call that queues now, in ms; 0 while too little is known. */
  estimatedWaitMs(): number {
    if (this.#served < ESTIMATE_CALLS_MIN || this.#resources.size === 0) return 0;
    let places = 0;
    for (const resource of this.#resources) places += resource.places;
    return (this.#serviceMs * (this.#queue.length + 1)) / places;
  }

  /** @param mayHaveRun it was in the line of a chassis, whose last answer may be on its way here */
  expiredInQueue(waitedMs: number, mayHaveRun: boolean): KatamariError {
    return this.#expired(waitedMs, mayHaveRun);
  }

  #firstFree(): Resource | undefined {
    let best = this.#free.at(-1);
    // Copies that take several calls at once share them evenly.
    if (best !== undefined && best.places > 1) {
      for (const resource of this.#free) if (resource.inFlight < best.inFlight) best = resource;
    }
    return best;
  }

  /** Of the busy chassis that keep a line, the one with the shortest. */
  #shortestLine(): Resource | undefined {
    let best: Resource | undefined;
    for (const resource of this.#resources) {
      if (resource.hasPlaceAhead && (best === undefined || resource.inFlight < best.inFlight)) best = resource;
    }
    return best;
  }

  #unfree(resource: Resource): void {
    const index = this.#free.lastIndexOf(resource);
    if (index !== -1) this.#free.splice(index, 1);
  }

  /**
   * A call that waited and has less time left than each of the last calls of its method took would be cut off half-way, and the next
   * caller would wait for nothing. Calls that find a free resource always run, so a method that became faster is noticed.
   */
  #whyHopeless(call: Call): KatamariError | undefined {
    const leftMs = call.deadlineMs - this.options.clock.nowMs();
    const needMs = this.#recent.get(call.method)?.shortest() ?? 0;
    if (leftMs >= needMs) return undefined;
    const why = `Waited in the queue of ${this.options.id} until ${Math.max(0, Math.floor(leftMs))} ms were left; ${call.method} takes ${Math.ceil(needMs)} ms or more of late`;
    return new KatamariError('timeout', why, { stage: 'queue', notRun: true });
  }

  #whyNotTake({ signal, deadlineMs }: Call, nowMs: number): KatamariError | undefined {
    if (this.#whyClosed !== '') return new KatamariError('draining', this.#whyClosed, { notRun: true });
    if (signal?.aborted === true) return callerGone();
    return nowMs >= deadlineMs ? this.#expired(0) : undefined;
  }

  #whyNotQueue(call: Call, nowMs: number): KatamariError | undefined {
    const { length } = this.#queue;
    const waitMs = this.estimatedWaitMs();
    // In coarse steps, so that many calls are refused with one error.
    const retryAfterMs = Math.max(1, Math.ceil(waitMs / RETRY_AFTER_STEP_MS)) * RETRY_AFTER_STEP_MS;
    if (call.doNotQueue) return this.#noneFree(retryAfterMs);
    if (length >= this.queueMax) return this.#fullError(length, retryAfterMs);
    const { id } = this.options;
    const facts = { retryAfterMs, notRun: true };
    if (waitMs > call.deadlineMs - nowMs) {
      const why = `Cannot queue for ${id}: the wait would be about ${Math.ceil(waitMs)} ms and the call has ${Math.floor(call.deadlineMs - nowMs)} ms left`;
      return new KatamariError('overloaded', why, facts);
    }
    return undefined;
  }

  /** One error for all calls that meet the same full queue: to say it anew for each costs more than to refuse it. */
  #fullError(length: number, retryAfterMs: number): KatamariError {
    const { queueMax } = this;
    const known = this.#full;
    const isSame = known?.length === length && known.queueMax === queueMax;
    if (isSame && known.error.facts.retryAfterMs === retryAfterMs) return known.error;
    const why = `Cannot queue for ${this.options.id}: ${length} calls are waiting, limit is ${queueMax}; try again in ${retryAfterMs} ms or start more copies`;
    const error = new KatamariError('overloaded', why, { retryAfterMs, notRun: true });
    this.#full = { length, queueMax, error };
    return error;
  }

  /** Likewise for calls that were not to wait: a faceplate sends many of those while all are busy. */
  #noneFree(retryAfterMs: number): KatamariError {
    if (this.#busy?.facts.retryAfterMs === retryAfterMs) return this.#busy;
    const why = `${this.options.id} has no free resource and the call was not to wait`;
    return (this.#busy = new KatamariError('overloaded', why, { retryAfterMs, notRun: true }));
  }

  #expired(waitedMs: number, mayHaveRun = false): KatamariError {
    const { id } = this.options;
    const alive =
      this.#resources.size === 0 ? 'none of its resources is alive' : `its ${this.#resources.size} resources are busy`;
    const why =
      waitedMs === 0
        ? `The deadline had passed before the call reached ${id}`
        : `Waited ${Math.round(waitedMs)} ms in the queue of ${id}: ${alive}`;
    return new KatamariError('timeout', why, { stage: 'queue', ...(mayHaveRun ? {} : { notRun: true }) });
  }
}

/** Calls over which the service time is smoothed. */
const SMOOTHING_CALLS = 64;
const RETRY_AFTER_STEP_MS = 50;
