// A pool: resources with equal details and interface, and the queue of calls that wait for one. First come, first served; a freed or new
// resource serves the longest waiter. Refuses: calls beyond the queue's limit, calls that would wait past their deadline, calls that
// asked not to queue. Quick calls that may run twice are sent ahead to chassis that keep a line (resource.ts). A call whose deadline passes or whose caller has gone leaves the queue and never reaches a chassis.

import {
  CallStats,
  KatamariError,
  type Call,
  type Clock,
  type DeadlineEntry,
  type DeadlineWheel,
  type Details,
  type Dispatch,
  type Interface,
  type Reply,
  type ReplySink,
  type CallResult,
  type WireReplyContext,
} from '../../chassis-sdk/internal.ts';
import type { Resource } from './resource.ts';

export interface PoolOptions {
  readonly id: string;
  readonly details: Details;
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
  readonly #recent = new Map<string, RecentTimes>();
  /** Smoothed service time, in ms, for the estimate of a wait. */
  #serviceMs = 0;
  #served = 0;
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
  close(why: string, elsewhere: (call: Call) => Dispatch | undefined = () => undefined): void {
    if (this.#whyClosed === '') this.#whyClosed = why;
    for (let waiting = this.#queue.shift(); waiting !== undefined; waiting = this.#queue.shift()) {
      waiting.leaveFor(elsewhere(waiting.call), new KatamariError('draining', why, { notRun: true }));
    }
  }

  /** The Dispatch of this pool. */
  readonly dispatch = (call: Call): Promise<Reply> =>
    new Promise((resolve, reject) => {
      this.stats.accept();
      const lease = new Lease(this, call, resolve, reject);
      const nowMs = lease.acceptedAtMs;
      if (this.#whyClosed !== '') return lease.refuse(new KatamariError('draining', this.#whyClosed, { notRun: true }));
      if (call.signal?.aborted === true) return lease.refuse(callerGone());
      if (nowMs >= call.deadlineMs) return lease.refuse(this.#expired(0));
      lease.watchDeadline();
      const resource = this.#firstFree();
      if (resource !== undefined && this.#queue.length === 0) return lease.start(resource);
      lease.watchCaller();
      const ahead = this.#queue.length === 0 && lease.isQuick ? this.#shortestLine() : undefined;
      if (ahead !== undefined) return lease.start(ahead);
      const refusal = this.#whyNotQueue(call, nowMs);
      if (refusal !== undefined) return lease.refuse(refusal);
      this.#queue.push(lease);
    });

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

  entered(method: string, result: CallResult, totalMs: number, queueUs: number, serviceMs: number): void {
    this.stats.settle(result, totalMs, queueUs);
    if (result !== 'ok') return;
    let recent = this.#recent.get(method);
    if (recent === undefined) this.#recent.set(method, (recent = new RecentTimes()));
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

  expiredInQueue(waitedMs: number): KatamariError {
    return this.#expired(waitedMs);
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

  #whyNotQueue(call: Call, nowMs: number): KatamariError | undefined {
    const { queueMax } = this;
    const { id } = this.options;
    const waitMs = this.estimatedWaitMs();
    const facts = { retryAfterMs: Math.max(RETRY_AFTER_MIN_MS, Math.ceil(waitMs)), notRun: true };
    if (call.doNotQueue)
      return new KatamariError('overloaded', `${id} has no free resource and the call was not to wait`, facts);
    if (this.#queue.length >= queueMax) {
      const why = `Cannot queue for ${id}: ${this.#queue.length} calls are waiting, limit is ${queueMax}; try again in ${facts.retryAfterMs} ms or start more copies`;
      return new KatamariError('overloaded', why, facts);
    }
    if (waitMs > call.deadlineMs - nowMs) {
      const why = `Cannot queue for ${id}: the wait would be about ${Math.ceil(waitMs)} ms and the call has ${Math.floor(call.deadlineMs - nowMs)} ms left`;
      return new KatamariError('overloaded', why, facts);
    }
    return undefined;
  }

  #expired(waitedMs: number): KatamariError {
    const { id } = this.options;
    const alive =
      this.#resources.size === 0 ? 'none of its resources is alive' : `its ${this.#resources.size} resources are busy`;
    const why =
      waitedMs === 0
        ? `The deadline had passed before the call reached ${id}`
        : `Waited ${Math.round(waitedMs)} ms in the queue of ${id}: ${alive}`;
    return new KatamariError('timeout', why, { stage: 'queue', notRun: true });
  }
}

/**
 * One call in a pool, from accepted to settled; settles exactly once.
 * queued -> serving (a resource was leased) -> settled; queued -> settled (refused, expired, caller gone);
 * queued -> ahead (in the line of a resource) -> serving; ahead -> queued again (the resource died or is stuck), or settled as if queued;
 * serving -> queued again only when nothing was written.
 */
export class Lease implements ReplySink, DeadlineEntry {
  readonly call: Call;
  readonly acceptedAtMs: number;
  /** Of its pool's calls the so manieth. */
  readonly turn: number;
  readonly #pool: ResourcePool;
  readonly #resolve: (reply: Reply) => void;
  readonly #reject: (error: KatamariError) => void;
  #resource: Resource | undefined;
  #startedAtMs = 0;
  #isSettled = false;
  #isWatching = false;
  /** May be sent ahead. */
  readonly isQuick: boolean;
  /** Sent, and certain not to have begun: another one is before it. The resource's. */
  isAhead = false;
  linkId = 0;
  /** Neighbours in the queue. */
  next: Lease | undefined;
  previous: Lease | undefined;
  isQueued = false;
  /** The wheel's. */
  readonly expiresAtMs: number;
  slot = -1;
  place = -1;

  constructor(pool: ResourcePool, call: Call, resolve: (reply: Reply) => void, reject: (error: KatamariError) => void) {
    this.#pool = pool;
    this.call = call;
    this.#resolve = resolve;
    this.#reject = reject;
    this.acceptedAtMs = pool.options.clock.nowMs();
    this.turn = pool.stats.accepted;
    this.expiresAtMs = call.deadlineMs;
    this.isQuick = pool.isQuick(call.method);
  }

  watchDeadline(): void {
    this.#pool.options.deadlines.add(this);
  }

  /** A caller that goes away while the call waits takes the call along. */
  watchCaller(): void {
    const { signal } = this.call;
    if (signal === undefined || this.#isSettled || this.#isWatching) return;
    this.#isWatching = true;
    signal.addEventListener('abort', this, { once: true });
  }

  /** The caller has gone. */
  handleEvent(): void {
    this.#leave();
    this.refuse(callerGone());
  }

  /** Takes a place in `resource` and sends the call. */
  start(resource: Resource): void {
    const nowMs = this.#pool.options.clock.nowMs();
    if (nowMs >= this.call.deadlineMs) {
      this.expire();
      return;
    }
    this.#resource = resource;
    this.#startedAtMs = nowMs;
    if (!resource.take(this, nowMs)) {
      // The link had closed and nothing was written: the next resource may have it.
      this.#resource = undefined;
      this.#pool.remove(resource);
      this.#pool.requeue(this);
      this.watchCaller();
      return;
    }
    if (!this.isAhead) this.#stopWatchingCaller();
    this.#pool.onTaken(resource);
  }

  /** Its turn in the line of its resource has come. */
  begin(nowMs: number): void {
    this.isAhead = false;
    this.#startedAtMs = nowMs;
    this.#stopWatchingCaller();
  }

  /** Its resource will not serve it: another one may. */
  isBack(): void {
    this.isAhead = false;
    this.#resource = undefined;
    if (!this.#isSettled) this.#pool.requeue(this);
  }

  /** ReplySink: the chassis answered. */
  reply(reply: Reply, wire: WireReplyContext | undefined): void {
    const nowMs = this.#pool.options.clock.nowMs();
    const resource = this.#resource as Resource;
    if (wire?.retire === true) resource.retire();
    resource.answered(this, nowMs);
    // The next one is served before the answer goes out, so that what it says of the pool is true when it is read.
    this.#pool.onFreed(resource);
    if (!this.#isSettled) {
      const queueUs = (this.#startedAtMs - this.acceptedAtMs) * 1000;
      const context = {
        version: this.#pool.options.details.version,
        queueUs,
        serviceUs: (nowMs - this.#startedAtMs) * 1000,
        freeNow: this.#pool.free,
        queuedNow: this.#pool.queued,
        resource: resource.name,
      };
      if (reply.isException) this.#pool.stats.exceptions++;
      this.#settle('ok', nowMs, queueUs);
      this.#resolve({ isException: reply.isException, body: reply.body, context });
    }
  }

  /** ReplySink: the chassis died, closed or broke the protocol, or said that the call was wrong, or that it leaves and has not run it. */
  fail(error: KatamariError): void {
    const resource = this.#resource as Resource;
    resource.answered(this, this.#pool.options.clock.nowMs());
    const isLeaving = error.code === 'draining' && error.facts.notRun === true;
    if (isLeaving) resource.retire();
    if (isLeaving || (this.isAhead && error.code === 'resource_failed')) {
      this.isBack();
      return;
    }
    if (!this.#isSettled) {
      this.#settle(error.code, this.#pool.options.clock.nowMs(), (this.#startedAtMs - this.acceptedAtMs) * 1000);
      this.#reject(error.code === 'resource_failed' ? resource.explain(error, this.call) : error);
    }
    this.#pool.onFreed(resource);
  }

  /** DeadlineEntry: the deadline has passed. In service the resource keeps its place taken until it answers or is killed. */
  expire(): void {
    if (this.#isSettled) return;
    const nowMs = this.#pool.options.clock.nowMs();
    if (this.#resource === undefined || this.isAhead) {
      this.#leave();
      this.refuse(this.#pool.expiredInQueue(nowMs - this.acceptedAtMs));
      return;
    }
    const { id } = this.#pool.options;
    const ranMs = Math.round(nowMs - this.#startedAtMs);
    const why = `${id} did not answer ${this.call.method} in time: ${this.#resource.name} has worked on it for ${ranMs} ms`;
    this.#settle('timeout', nowMs, (this.#startedAtMs - this.acceptedAtMs) * 1000);
    this.#reject(new KatamariError('timeout', why, { stage: 'service' }));
    this.#resource.isOverdue(this);
  }

  /** Ends a call that never ran. */
  refuse(error: KatamariError): void {
    if (this.#isSettled) return;
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    this.#reject(error);
  }

  /** Leaves the pool, which goes away, for another one, or with the error when there is none. */
  leaveFor(elsewhere: Dispatch | undefined, error: KatamariError): void {
    if (elsewhere === undefined || this.#isSettled) {
      this.refuse(error);
      return;
    }
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    elsewhere(this.call).then(this.#resolve, this.#reject);
  }

  /** Out of the queue, or out of the line of its resource. */
  #leave(): void {
    if (this.isAhead) this.#resource?.takeBack(this);
    else this.#pool.leave(this);
  }

  #settle(result: CallResult, nowMs: number, queueUs: number): void {
    this.#isSettled = true;
    this.#pool.options.deadlines.remove(this);
    this.#stopWatchingCaller();
    this.#pool.entered(this.call.method, result, nowMs - this.acceptedAtMs, queueUs, nowMs - this.#startedAtMs);
  }

  #stopWatchingCaller(): void {
    if (!this.#isWatching) return;
    this.#isWatching = false;
    this.call.signal?.removeEventListener('abort', this);
  }
}

/** Waiting calls, longest first; joins and leaves in constant time. */
class CallQueue {
  head: Lease | undefined;
  #tail: Lease | undefined;
  length = 0;

  push(lease: Lease): void {
    lease.previous = this.#tail;
    lease.next = undefined;
    if (this.#tail === undefined) this.head = lease;
    else this.#tail.next = lease;
    this.#tail = lease;
    this.#entered(lease);
  }

  /** Before all that came later. */
  putBack(lease: Lease): void {
    let next = this.head;
    while (next !== undefined && next.turn < lease.turn) next = next.next;
    if (next === undefined) {
      this.push(lease);
      return;
    }
    lease.next = next;
    lease.previous = next.previous;
    if (next.previous === undefined) this.head = lease;
    else next.previous.next = lease;
    next.previous = lease;
    this.#entered(lease);
  }

  shift(): Lease | undefined {
    const head = this.head;
    if (head !== undefined) this.remove(head);
    return head;
  }

  remove(lease: Lease): void {
    if (!lease.isQueued) return;
    lease.isQueued = false;
    if (lease.previous === undefined) this.head = lease.next;
    else lease.previous.next = lease.next;
    if (lease.next === undefined) this.#tail = lease.previous;
    else lease.next.previous = lease.previous;
    lease.next = undefined;
    lease.previous = undefined;
    this.length--;
  }

  #entered(lease: Lease): void {
    lease.isQueued = true;
    this.length++;
  }
}

/** Service times of the last calls of one method, in ms. */
class RecentTimes {
  readonly #times: number[] = [];
  #next = 0;
  /** A mean in which the last calls weigh most, in ms: a single slow one of many is forgiven, one that hung is remembered for some 50 calls. */
  #meanMs = 0;
  #count = 0;

  /** They take no time to speak of. */
  get isQuick(): boolean {
    return this.#meanMs <= QUICK_MS && this.#count >= ESTIMATE_CALLS_MIN;
  }

  add(ms: number): void {
    this.#count++;
    this.#meanMs += (ms - this.#meanMs) / Math.min(this.#count, RECENT_CALLS);
    this.#times[this.#next] = ms;
    this.#next = (this.#next + 1) % RECENT_CALLS;
  }

  shortest(): number {
    return Math.min(...this.#times);
  }
}

function callerGone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone', { notRun: true });
}

/** Calls that take no longer, on the mean, are quick, in ms. */
const QUICK_MS = 2;
/** Calls of a method that are looked at to tell how long it takes at least. */
const RECENT_CALLS = 8;
/** Calls over which the service time is smoothed. */
const SMOOTHING_CALLS = 64;
/** Calls served before an estimate of the wait is believed. */
const ESTIMATE_CALLS_MIN = 32;
const RETRY_AFTER_MIN_MS = 50;
