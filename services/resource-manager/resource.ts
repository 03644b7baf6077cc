// A resource: one ready chassis with its link and the calls that it runs. When a call outlives its deadline by the
// grace time, the resource reports the chassis as hung; its process is then killed and replaced.
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

/** The connection to a chassis: a Link, or PlainLinks for a plain Thrift server. */
export interface ResourceLink {
  readonly isOpen: boolean;
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
  #onIdle: (() => void) | undefined;
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

  get concurrency(): number {
    return this.#options.concurrency;
  }

  get hasCapacity(): boolean {
    return this.#leases.length < this.#options.concurrency && this.#options.link.isOpen && !this.#isRetired;
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
    if (this.#leases.length === 0) {
      this.#onIdle?.();
      return;
    }
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
    const { clock, hangGraceMs, onHung } = this.#options;
    const why = `${lease.call.method} outlived its deadline by ${hangGraceMs} ms`;
    this.#killTimers.set(
      lease,
      clock.after(hangGraceMs, () => onHung(why)),
    );
  }

  /** Resolves when the resource has no calls. */
  whenIdle(): Promise<void> {
    if (this.#leases.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
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
  explain(error: KatamariError, call: Call): KatamariError {
    const why = `${this.name} failed while it worked on ${call.method}: ${error.message}. It is being replaced; send the call again if it is safe to run twice`;
    return new KatamariError('resource_failed', why, error.facts, error);
  }
}

/** A chassis that runs calls of about 1 ms has answered at least one within this time, in ms. */
const STUCK_MS = 20;
