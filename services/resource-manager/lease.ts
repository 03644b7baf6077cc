// One call in a pool, from accepted to settled. A lease knows where its call is (in the queue, sent ahead to a busy
// resource, served, settled) and what ends it there: a reply, a failure, its deadline or its caller. The pool decides
// which resource serves it, and when.

import {
  callerGone,
  leaveList,
  unwatchCaller,
  watchCaller,
  type WaitingCalls,
  type DeadlineWheel,
  type ReplySink,
  type WireReplyContext,
} from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type Clock } from '../../core/mod.ts';
import type { GroupMember } from './call-groups.ts';
import type { FairCall } from './fair-queue.ts';
import {
  callerKeyOf,
  type Call,
  type CallResult,
  type CallSink,
  type CallStats,
  type Reply,
  type Send,
} from '../../core/rpc/mod.ts';
import type { LossCause, Loss, SuspectCalls } from './suspect-calls.ts';

/** What a lease needs from its pool. The interface keeps pool.ts and lease.ts from importing each other. */
export interface LeaseOwner {
  readonly options: {
    readonly id: string;
    readonly details: { readonly version: string };
    readonly clock: Clock;
    readonly deadlines: DeadlineWheel;
  };
  readonly stats: CallStats;
  /** Calls that have cost a copy its connection or its life. */
  readonly suspects: SuspectCalls;
  /** Resources that can take a call now. */
  readonly free: number;
  /** Calls in the queue. */
  readonly queued: number;
  /** The resource has taken a call and may be full. */
  onTaken(resource: LeasedResource): void;
  /** The link of the resource has closed. */
  onLinkClosed(resource: LeasedResource): void;
  /** The resource can take another call. */
  onFreed(resource: LeasedResource): void;
  /** Expected service time of a call of this method, in relation to the average of the pool. */
  costOf(method: string): number;
  /** Puts the lease back at its old position in the queue. */
  requeue(lease: Lease): void;
  /** Records the end of a call in the statistics of the pool. */
  record(method: string, result: CallResult, totalMs: number, queueUs: number, serviceMs: number): void;
  /** Whether a call of the method may be sent to another copy after it may have run. */
  isIdempotent(method: string): boolean;
  /** The error for a call whose deadline passed in the queue. */
  timeoutInQueue(waitedMs: number, mayHaveRun: boolean): KatamariError;
}

/** What a lease needs from the resource that serves it. */
export interface LeasedResource {
  /** `Service@version/index` */
  readonly name: string;
  /** Sends the call; false when the link has closed and nothing was written. */
  take(lease: Lease, nowMs: number): boolean;
  answered(lease: Lease, nowMs: number): void;
  takeBack(lease: Lease): void;
  retire(): void;
  startKillTimer(lease: Lease): void;
  /** Whether the copy is lost because of a call: not if it was being replaced anyway. */
  isLostByCall(error: KatamariError): boolean;
  /** Other calls that run in the copy, or ran in it when it was lost. */
  countOthers(lease: Lease): number;
  /** Settles the loss when it is known what became of the process, and tells the lease. */
  keepLoss(lease: Lease, loss: Loss): void;
  explain(error: KatamariError, call: Call, isSuspect: boolean): KatamariError;
}

/**
 * One call in a pool. It settles exactly once.
 *
 * - queued -> serving (a resource took it) -> settled
 * - queued -> settled (refused, deadline passed, caller gone)
 * - queued -> ahead (sent to a busy resource) -> serving; or back to queued when the resource dies or is stuck; or
 * settled as if queued
 * - serving -> queued only when nothing was written
 */
export class Lease implements ReplySink, FairCall {
  readonly call: Call;
  readonly arrival: number;
  readonly expiresAtMs: number;
  slot = -1;
  place = -1;
  next: Lease | undefined;
  previous: Lease | undefined;
  list: WaitingCalls<Lease> | undefined;
  isListening = false;
  readonly acceptedAtMs: number;
  readonly #pool: LeaseOwner;
  readonly #sink: CallSink;
  #resource: LeasedResource | undefined;
  #startedAtMs = 0;
  #isSettled = false;
  /** Why the copy was lost, while it is not known what became of its process. */
  #lostBy: KatamariError | undefined;
  /** The call is quick and idempotent, so it may be sent ahead. */
  readonly isQuick: boolean;
  /** One of several copies of a call; undefined for a call without copies. */
  readonly member: GroupMember | undefined;
  /**
   * Sent behind a call that has no reply yet, so the chassis has not begun it as far as the manager knows. Set by the
   * resource.
   */
  isAhead = false;
  linkId = 0;

  constructor(
    pool: LeaseOwner,
    call: Call,
    sink: CallSink,
    nowMs: number,
    isQuick: boolean,
    member: GroupMember | undefined,
  ) {
    this.#pool = pool;
    this.call = call;
    this.arrival = pool.stats.accepted;
    this.expiresAtMs = call.deadlineMs;
    this.#sink = sink;
    this.acceptedAtMs = nowMs;
    this.isQuick = isQuick;
    this.member = member;
  }

  /** Calls of one caller wait in one list. */
  get queueKey(): string {
    return callerKeyOf(this.call);
  }

  cost(): number {
    return this.#pool.costOf(this.call.method);
  }

  watchDeadline(): void {
    this.#pool.options.deadlines.add(this);
  }

  /** EventListenerObject: the signal of the caller was aborted. */
  handleEvent(): void {
    this.#withdraw();
    this.refuse(callerGone());
  }

  /** Sends the call to `resource`. */
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
      // The link was closed and nothing was written, so another resource can serve the call.
      this.#pool.onLinkClosed(resource);
      this.requeue();
      return;
    }
    if (!this.isAhead) unwatchCaller(this);
    this.#pool.onTaken(resource);
  }

  /** The resource begins a call that was sent ahead. */
  begin(nowMs: number): void {
    this.isAhead = false;
    this.#startedAtMs = nowMs;
    unwatchCaller(this);
  }

  /** The resource will not serve the call, so another one may. */
  requeue(): void {
    this.isAhead = false;
    this.#resource = undefined;
    if (this.#isSettled) return;
    if (this.call.signal?.aborted === true) {
      this.refuse(callerGone());
      return;
    }
    watchCaller(this);
    this.#pool.requeue(this);
  }

  /** ReplySink: the chassis answered. */
  reply(reply: Reply, wire: WireReplyContext | undefined): void {
    const nowMs = this.#pool.options.clock.nowMs();
    const resource = this.#resource as LeasedResource;
    if (wire?.retire === true) resource.retire();
    resource.answered(this, nowMs);
    if (!this.#pool.suspects.isEmpty) this.#pool.suspects.acquit(this.call);
    // Serve the next call before the reply goes out, so that the pool figures in the reply are still true when it is
    // read.
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

  /**
   * ReplySink: the chassis died, closed the link, broke the protocol, rejected the call, or is draining and did not
   * run it.
   */
  fail(error: KatamariError): void {
    const resource = this.#resource as LeasedResource;
    const isLost = error.code === 'resource_failed' && !this.isAhead && resource.isLostByCall(error);
    const others = isLost ? resource.countOthers(this) : 0;
    resource.answered(this, this.#pool.options.clock.nowMs());
    const isLeaving = error.code === 'draining' && error.facts.notRun === true;
    if (isLeaving) resource.retire();
    if (isLeaving || (this.isAhead && error.code === 'resource_failed')) {
      this.requeue();
      return;
    }
    if (isLost) {
      // Noted before the pool moves on: the next call may be an equal one.
      const loss = this.#pool.suspects.note(this.call, resource.name, others === 0);
      this.#lostBy = error;
      resource.keepLoss(this, loss);
    }
    this.#pool.onFreed(resource);
    // A call that another copy may serve waits until it is known whether it is to blame.
    if (isLost && this.#pool.isIdempotent(this.call.method)) return;
    this.#failWith(error, isLost);
  }

  /** What became of the process of the lost copy is known. */
  onLossSettled(loss: Loss, cause: LossCause): void {
    const isSuspect = this.#pool.suspects.settle(loss, cause);
    if (this.#lostBy !== undefined) this.#failWith(this.#lostBy, isSuspect);
  }

  #failWith(error: KatamariError, isSuspect: boolean): void {
    this.#lostBy = undefined;
    if (this.#isSettled) return;
    const resource = this.#resource as LeasedResource;
    this.#settle(error.code, this.#pool.options.clock.nowMs(), (this.#startedAtMs - this.acceptedAtMs) * 1000);
    this.#sink.fail(error.code === 'resource_failed' ? resource.explain(error, this.call, isSuspect) : error);
  }

  /**
   * DeadlineEntry: the deadline has passed. A running call occupies its resource until the chassis answers or is
   * killed.
   */
  expire(): void {
    if (this.#isSettled) return;
    if (this.#lostBy !== undefined) {
      this.#failWith(this.#lostBy, true);
      return;
    }
    const nowMs = this.#pool.options.clock.nowMs();
    if (this.#resource === undefined || this.isAhead) {
      const mayHaveRun = this.isAhead;
      this.#withdraw();
      this.refuse(this.#pool.timeoutInQueue(nowMs - this.acceptedAtMs, mayHaveRun));
      return;
    }
    const { id } = this.#pool.options;
    const ranMs = Math.round(nowMs - this.#startedAtMs);
    const why = `${id} did not answer ${this.call.method} in time: ${this.#resource.name} has worked on it for ${ranMs} ms`;
    this.#settle('timeout', nowMs, (this.#startedAtMs - this.acceptedAtMs) * 1000);
    this.#resource.startKillTimer(this);
    this.#sink.fail(new KatamariError('timeout', why, { stage: 'service' }));
  }

  /** Fails a call that never ran. */
  refuse(error: KatamariError): void {
    if (this.#isSettled) return;
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    this.#sink.fail(error);
  }

  /** Moves the call from a pool that closes to another pool, or fails it with `error` when there is no other. */
  moveTo(other: Send | undefined, error: KatamariError): void {
    if (other === undefined || this.#isSettled) {
      this.refuse(error);
      return;
    }
    const nowMs = this.#pool.options.clock.nowMs();
    this.#settle(error.code, nowMs, (nowMs - this.acceptedAtMs) * 1000);
    other(this.call, this.#sink);
  }

  /** Takes the call out of the queue, or back from the resource that it was sent ahead to. */
  #withdraw(): void {
    if (this.isAhead) this.#resource?.takeBack(this);
    else leaveList(this);
  }

  #settle(result: CallResult, nowMs: number, queueUs: number): void {
    this.#isSettled = true;
    this.#pool.options.deadlines.remove(this);
    unwatchCaller(this);
    this.#pool.record(this.call.method, result, nowMs - this.acceptedAtMs, queueUs, nowMs - this.#startedAtMs);
  }
}
