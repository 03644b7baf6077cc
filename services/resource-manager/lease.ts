// One call in a pool, from accepted to settled. It knows where it is (in the queue, in the line of a resource, at work, settled) and what may end
// it there: an answer, a failure, its deadline, its caller. Which resource it gets, and when, is the pool's business.

import type { DeadlineEntry, DeadlineWheel, ReplySink, WireReplyContext } from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type Clock } from '../../core/mod.ts';
import type { Call, CallResult, CallSink, CallStats, Reply, Send } from '../../core/rpc/mod.ts';

/** What a lease needs of its pool. The pool implements it; the interface keeps the two files from importing each other. */
export interface LeaseOwner {
  readonly options: {
    readonly id: string;
    readonly details: { readonly version: string };
    readonly clock: Clock;
    readonly deadlines: DeadlineWheel;
  };
  readonly stats: CallStats;
  /** Resources that can take a call now. */
  readonly free: number;
  /** Calls in the queue. */
  readonly queued: number;
  /** The resource has taken a call and may be full. */
  onTaken(resource: LeasedResource): void;
  /** The resource can take another call. */
  onFreed(resource: LeasedResource): void;
  /** Takes the resource out of the pool. */
  remove(resource: LeasedResource): void;
  /** Puts the lease back at its old position in the queue. */
  requeue(lease: Lease): void;
  /** Takes the lease out of the queue. */
  leave(lease: Lease): void;
  /** Records the end of a call in the statistics of the pool. */
  record(method: string, result: CallResult, totalMs: number, queueUs: number, serviceMs: number): void;
  expiredInQueue(waitedMs: number, mayHaveRun: boolean): KatamariError;
}

/** What a lease needs of the resource that serves it. */
export interface LeasedResource {
  /** `Service@version/index` */
  readonly name: string;
  /** Sends the call; false when the link has closed and nothing was written. */
  take(lease: Lease, nowMs: number): boolean;
  answered(lease: Lease, nowMs: number): void;
  takeBack(lease: Lease): void;
  retire(): void;
  startKillTimer(lease: Lease): void;
  explain(error: KatamariError, call: Call): KatamariError;
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
  readonly #pool: LeaseOwner;
  readonly #sink: CallSink;
  #resource: LeasedResource | undefined;
  #startedAtMs = 0;
  #isSettled = false;
  #isWatching = false;
  /** May be sent ahead. */
  readonly isQuick: boolean;
  /** Sent, and not begun as far as is known here: the one before it is not answered yet. The resource's. */
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

  constructor(pool: LeaseOwner, call: Call, sink: CallSink, nowMs: number, isQuick: boolean) {
    this.#pool = pool;
    this.call = call;
    this.#sink = sink;
    this.acceptedAtMs = nowMs;
    this.turn = pool.stats.accepted;
    this.expiresAtMs = call.deadlineMs;
    this.isQuick = isQuick;
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
  start(resource: LeasedResource): void {
    const nowMs = this.#pool.options.clock.nowMs();
    if (nowMs >= this.call.deadlineMs) {
      this.expire();
      return;
    }
    this.#resource = resource;
    this.#startedAtMs = nowMs;
    let isTaken: boolean;
    try {
      isTaken = resource.take(this, nowMs);
    } catch (thrown) {
      this.#resource = undefined;
      this.#pool.onFreed(resource);
      this.refuse(asKatamariError(thrown));
      return;
    }
    if (!isTaken) {
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
  requeue(): void {
    this.isAhead = false;
    this.#resource = undefined;
    if (!this.#isSettled) this.#pool.requeue(this);
  }

  /** ReplySink: the chassis answered. */
  reply(reply: Reply, wire: WireReplyContext | undefined): void {
    const nowMs = this.#pool.options.clock.nowMs();
    const resource = this.#resource as LeasedResource;
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
      this.#sink.reply({ isException: reply.isException, body: reply.body, context });
    }
  }

  /** ReplySink: the chassis died, closed or broke the protocol, or said that the call was wrong, or that it leaves and has not run it. */
  fail(error: KatamariError): void {
    const resource = this.#resource as LeasedResource;
    resource.answered(this, this.#pool.options.clock.nowMs());
    const isLeaving = error.code === 'draining' && error.facts.notRun === true;
    if (isLeaving) resource.retire();
    if (isLeaving || (this.isAhead && error.code === 'resource_failed')) {
      this.requeue();
      return;
    }
    this.#pool.onFreed(resource);
    if (this.#isSettled) return;
    this.#settle(error.code, this.#pool.options.clock.nowMs(), (this.#startedAtMs - this.acceptedAtMs) * 1000);
    this.#sink.fail(error.code === 'resource_failed' ? resource.explain(error, this.call) : error);
  }

  /** DeadlineEntry: the deadline has passed. In service the resource keeps its place taken until it answers or is killed. */
  expire(): void {
    if (this.#isSettled) return;
    const nowMs = this.#pool.options.clock.nowMs();
    if (this.#resource === undefined || this.isAhead) {
      const mayHaveRun = this.isAhead;
      this.#leave();
      this.refuse(this.#pool.expiredInQueue(nowMs - this.acceptedAtMs, mayHaveRun));
      return;
    }
    const { id } = this.#pool.options;
    const ranMs = Math.round(nowMs - this.#startedAtMs);
    const why = `${id} did not answer ${this.call.method} in time: ${this.#resource.name} has worked on it for ${ranMs} ms`;
    this.#settle('timeout', nowMs, (this.#startedAtMs - this.acceptedAtMs) * 1000);
    this.#resource.startKillTimer(this);
    this.#sink.fail(new KatamariError('timeout', why, { stage: 'service' }));
  }

  /** Ends a call that never ran. */
  refuse(error: KatamariError): void {
    if (this.#isSettled) return;
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    this.#sink.fail(error);
  }

  /** Leaves the pool, which goes away, for another one, or with the error when there is none. */
  leaveFor(elsewhere: Send | undefined, error: KatamariError): void {
    if (elsewhere === undefined || this.#isSettled) {
      this.refuse(error);
      return;
    }
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    elsewhere(this.call, this.#sink);
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
    this.#pool.record(this.call.method, result, nowMs - this.acceptedAtMs, queueUs, nowMs - this.#startedAtMs);
  }

  #stopWatchingCaller(): void {
    if (!this.#isWatching) return;
    this.#isWatching = false;
    this.call.signal?.removeEventListener('abort', this);
  }
}

export function callerGone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone', { notRun: true });
}
