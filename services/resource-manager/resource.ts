// A resource: one ready chassis with its link and the calls that it runs. When a call outlives its deadline by the
// grace time, the resource reports the chassis as hung; its process is then replaced, and killed when its other calls
// have ended.
//
// A plain server that works on a oneway call sends nothing when it is done. Until it answers a later call on the same
// connection, it is used last, and a call that waits behind the oneway call is not a hang for ONEWAY_MS_MAX.
//
// Sending ahead (prefetch): a chassis that reports a buffer (`ahead`) is sent the next calls before it has answered
// the current one. The chassis then goes from one call to the next without sleeping, and both ends read and write
// several messages at a time, which doubles the throughput of small calls. The chassis begins a call after it has
// written the previous reply. So the calls behind an unanswered call have not begun. The exception is the first of
// them, if that reply is in transit. When the chassis dies, or answers nothing for STUCK_MS, the calls that were sent
// ahead are taken back and served by other resources. Only idempotent calls are sent ahead.

import type { ReplySink } from '../../core/link/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import type { Call } from '../../core/rpc/mod.ts';
import type { Lease } from './lease.ts';
import type { Loss, LossCause } from './suspect-calls.ts';

/** The connection to a chassis: a Link, or PlainLinks for a plain Thrift server. */
export interface ResourceLink {
  readonly isOpen: boolean;
  /** Whether it opens its connections again when they have closed. */
  readonly reopens?: boolean;
  /** Calls that it can carry now, if less than the concurrency: a plain server has lost some of its connections. */
  readonly capacity?: number;
  /** Connections on which the server may still work on a oneway call. */
  readonly onewaysOpen?: number;
  /** When the oneway call was written behind which this call waits; undefined when there is none. */
  onewaySinceMs?(id: number): number | undefined;
  /** @returns the id for `cancel` @throws KatamariError when the link is not open */
  send(call: Call, sink: ReplySink, nowMs: number): number;
  /** Cancels a call; its sink is not called any more. False when the call has ended or cannot be canceled. */
  cancel(id: number): boolean;
  close(why?: string): void;
}

export interface ResourceOptions {
  /** `Service@version/index` */
  readonly name: string;
  readonly link: ResourceLink;
  /** Calls that the chassis runs at the same time. */
  readonly concurrency: number;
  /** Calls that the chassis buffers beyond the one that it runs; used only if `concurrency` is 1. */
  readonly ahead: number;
  readonly hangGraceMs: number;
  readonly clock: Clock;
  /** Called when a call has outlived its deadline by the grace time. */
  readonly onHung: (why: string) => void;
  /** Whether the process is being replaced or stopped, so that no call is to blame for its end. */
  readonly isLeaving: () => boolean;
  /** Called when the chassis asks to be replaced. */
  readonly onRetire: () => void;
  /** Called after each answered call. */
  readonly onServed: () => void;
  /** Returns how the process ended, for the errors of its calls: `exited with status 1`. */
  readonly exitReason: () => string;
}

export class Resource {
  readonly #options: ResourceOptions;
  /** Calls in order of arrival. An array and not a Set, for the reason in the head of core/link/pending-table.ts. */
  readonly #leases: Lease[] = [];
  /** Kill timers of the calls that are past their deadline. */
  readonly #killTimers = new Map<Lease, () => void>();
  #onQuiet: (() => void) | undefined;
  /** Calls that are hung: their callers were told, and nothing is expected of them. */
  readonly #hung = new Set<Lease>();
  /** Calls that were lost with the copy, until it is known what became of its process. */
  #losses: { readonly lease: Lease; readonly loss: Loss }[] = [];
  /** Called when `hasCapacity` may have changed without a call. Set by the pool. */
  onCapacity: (() => void) | undefined;
  /** The running call is quick and idempotent. */
  #isQuick = false;
  /** Answered nothing for STUCK_MS: no call is sent ahead until the next reply. */
  #isStuck = false;
  #stopStuckTimer: (() => void) | undefined;
  /** `callsServed` when the stuck timer was started. */
  #servedAtTimerStart = 0;
  #isRetired = false;
  callsServed = 0;

  constructor(options: ResourceOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** Whether it may serve calls again after its link has closed. */
  get reopens(): boolean {
    return this.#options.link.reopens === true;
  }

  get concurrency(): number {
    return this.#options.concurrency;
  }

  get hasCapacity(): boolean {
    const { concurrency, link } = this.#options;
    return this.#leases.length < (link.capacity ?? concurrency) && link.isOpen && !this.#isRetired;
  }

  /** Whether every connection without a call may still be busy with a oneway call. */
  get isLastChoice(): boolean {
    const { concurrency, link } = this.#options;
    const { onewaysOpen = 0 } = link;
    return onewaysOpen > 0 && this.#leases.length + onewaysOpen >= (link.capacity ?? concurrency);
  }

  /** Whether a quick call may be sent ahead now. */
  get canSendAhead(): boolean {
    const { concurrency, ahead, link } = this.#options;
    if (ahead === 0 || concurrency !== 1 || !this.#isQuick || this.#isStuck) return false;
    return this.#leases.length <= ahead && link.isOpen && !this.#isRetired;
  }

  /** Takes no further calls and asks for a replacement. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#options.onRetire();
  }

  /** Takes no further calls. */
  stop(): void {
    this.#isRetired = true;
    this.onCapacity?.();
  }

  get inFlight(): number {
    return this.#leases.length;
  }

  /**
   * Sends the call; false when the link has closed and nothing was written.
   * @throws KatamariError when this call cannot be encoded
   */
  take(lease: Lease, nowMs: number): boolean {
    if (!this.#options.link.isOpen) return false;
    lease.isAhead = this.#leases.length >= this.#options.concurrency;
    if (lease.isAhead) this.#startStuckTimer();
    else this.#isQuick = lease.isQuick;
    this.#leases.push(lease);
    try {
      lease.linkId = this.#options.link.send(lease.call, lease, nowMs);
    } catch (error) {
      this.#remove(lease);
      if (this.#options.link.isOpen) throw error;
      return false;
    }
    return true;
  }

  /** Removes a call that was answered or failed, and begins the next call that was sent ahead. */
  answered(lease: Lease, nowMs: number): void {
    if (!this.#remove(lease)) return;
    this.callsServed++;
    this.#isStuck = false;
    this.#killTimers.get(lease)?.();
    this.#killTimers.delete(lease);
    this.#options.onServed();
    this.#hung.delete(lease);
    if (this.isQuiet) this.#onQuiet?.();
    if (this.#leases.length === 0) return;
    const next = this.#leases[0];
    if (next?.isAhead === true && this.#options.link.isOpen) next.begin(nowMs);
  }

  /** Removes a lease; false when it was not here. */
  #remove(lease: Lease): boolean {
    const index = this.#leases.indexOf(lease);
    if (index === -1) return false;
    if (index === 0) this.#leases.shift();
    else this.#leases.splice(index, 1);
    return true;
  }

  /** Cancels a call that was sent ahead. */
  takeBack(lease: Lease): void {
    if (!this.#remove(lease)) return;
    this.#options.link.cancel(lease.linkId);
  }

  /** Gives the chassis the grace time to answer a call whose deadline has passed. */
  startKillTimer(lease: Lease): void {
    const { clock, hangGraceMs, link } = this.#options;
    const sinceMs = link.onewaySinceMs?.(lease.linkId);
    const onewayLeftMs = sinceMs === undefined ? 0 : sinceMs + ONEWAY_MS_MAX - clock.nowMs();
    const check = (): void => {
      // The server may have finished the oneway call only now: this call then has its own time.
      if (onewayLeftMs > 0) this.startKillTimer(lease);
      else this.#onHung(lease);
    };
    this.#killTimers.set(lease, clock.after(Math.max(hangGraceMs, onewayLeftMs), check));
  }

  #onHung(lease: Lease): void {
    const { hangGraceMs, onHung } = this.#options;
    this.#killTimers.delete(lease);
    this.#hung.add(lease);
    onHung(`${lease.call.method} outlived its deadline by ${hangGraceMs} ms`);
    if (this.isQuiet) this.#onQuiet?.();
  }

  /** Whether calls run beside those that hang. Calls that were sent ahead go elsewhere. */
  get hasNeighbors(): boolean {
    return this.#leases.some((lease) => !lease.isAhead && !this.#hung.has(lease));
  }

  /** Whether no call is left that can still be answered. */
  get isQuiet(): boolean {
    return this.#leases.length === this.#hung.size;
  }

  /** Resolves when no call is left that can still be answered. */
  whenQuiet(): Promise<void> {
    if (this.isQuiet) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.#onQuiet;
      this.#onQuiet = () => {
        before?.();
        resolve();
      };
    });
  }

  /** Whether a lost copy can have been lost because of a call. */
  isLostByCall({ facts }: KatamariError): boolean {
    return facts.isSuspect !== false && facts.notRun !== true && !this.#options.isLeaving();
  }

  countOthers(lease: Lease): number {
    const running = this.#leases.filter((other) => other !== lease && !other.isAhead).length;
    return running + this.#losses.length;
  }

  keepLoss(lease: Lease, loss: Loss): void {
    this.#losses.push({ lease, loss });
  }

  /** Settles the losses so far, now that it is known what became of the process. */
  settleLosses(cause: LossCause): void {
    for (const { lease, loss } of this.#losses.splice(0)) lease.onLossSettled(loss, cause);
  }

  /** Stops the timers and closes the link; calls of the resource fail. */
  close(): void {
    for (const stop of this.#killTimers.values()) stop();
    this.#killTimers.clear();
    this.#stopStuckTimer?.();
    this.#options.link.close(this.#options.exitReason());
  }

  #startStuckTimer(): void {
    if (this.#stopStuckTimer !== undefined) return;
    this.#servedAtTimerStart = this.callsServed;
    this.#stopStuckTimer = this.#options.clock.after(STUCK_MS, () => this.#checkStuck());
  }

  #checkStuck(): void {
    this.#stopStuckTimer = undefined;
    const ahead = this.#leases.filter((lease) => lease.isAhead);
    if (ahead.length === 0) return;
    if (this.callsServed !== this.#servedAtTimerStart) {
      this.#startStuckTimer();
      return;
    }
    this.#isStuck = true;
    for (const lease of ahead) {
      this.takeBack(lease);
      lease.requeue();
    }
  }

  /** The error for a caller whose call was running when the resource failed. */
  explain(error: KatamariError, call: Call, isSuspect: boolean): KatamariError {
    const advice = isSuspect
      ? 'The call may be the cause, so it is not sent to another copy; send it again only if it is safe to run twice'
      : 'Send the call again if it is safe to run twice';
    const why = `${this.name} failed while it worked on ${call.method}: ${error.message}. ${advice}`;
    return new KatamariError('resource_failed', why, { ...error.facts, isSuspect }, error);
  }
}

/**
 * Longest time in ms that a plain server may work on a oneway call. What waits behind it counts as a hang only after
 * this time.
 */
export const ONEWAY_MS_MAX = 600_000;
/** A chassis that runs calls of about 1 ms has answered at least one within this time, in ms. */
const STUCK_MS = 20;
