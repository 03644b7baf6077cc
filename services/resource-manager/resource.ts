// A resource: one introduced chassis with its places, the calls in it and its link. It knows when a call has outlived its deadline by the
// grace time, and says so to its slot, which kills and replaces the process.

import { KatamariError, type Call, type Clock, type ReplySink } from '../../chassis-sdk/internal.ts';
import type { Lease } from './pool.ts';

/** What is asked of the way to a chassis: a Link, or what there is in place of one to a plain server. */
export interface ResourceLink {
  readonly isOpen: boolean;
  /** @throws KatamariError when it is not open */
  send(call: Call, sink: ReplySink, nowMs: number): void;
  close(why?: string): void;
}

export interface ResourceOptions {
  /** `Service@version/index` */
  readonly name: string;
  readonly link: ResourceLink;
  /** Calls it works on at once. */
  readonly places: number;
  readonly hangGraceMs: number;
  readonly clock: Clock;
  /** A call outlived its deadline by the grace time. */
  readonly onHung: (why: string) => void;
  /** The chassis asked to be replaced with its answer. */
  readonly onRetire: () => void;
  /** Told after each call that was answered. */
  readonly onServed: () => void;
  /** What is known of the death of its process, for the error of calls that were inside: `exited with status 1`. */
  readonly obituary: () => string;
}

export class Resource {
  readonly #options: ResourceOptions;
  readonly #leases = new Set<Lease>();
  /** Timers of calls that are past their deadline. */
  readonly #graces = new Map<Lease, () => void>();
  #onIdle: (() => void) | undefined;
  #isRetired = false;
  callsServed = 0;

  constructor(options: ResourceOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get places(): number {
    return this.#options.places;
  }

  get hasPlace(): boolean {
    return this.#leases.size < this.#options.places && this.#options.link.isOpen && !this.#isRetired;
  }

  /** It takes no further call. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#options.onRetire();
  }

  get inFlight(): number {
    return this.#leases.size;
  }

  /** Sends the call; false when the link has closed and nothing was written. */
  take(lease: Lease, nowMs: number): boolean {
    if (!this.#options.link.isOpen) return false;
    this.#leases.add(lease);
    this.#options.link.send(lease.call, lease, nowMs);
    return true;
  }

  /** A call has ended: its place is free. */
  give(lease: Lease): void {
    if (!this.#leases.delete(lease)) return;
    this.callsServed++;
    this.#graces.get(lease)?.();
    this.#graces.delete(lease);
    this.#options.onServed();
    if (this.#leases.size === 0) this.#onIdle?.();
  }

  /** The deadline of a call inside has passed: its chassis gets the grace time to answer. */
  isOverdue(lease: Lease): void {
    const { clock, hangGraceMs, onHung } = this.#options;
    const why = `${lease.call.method} outlived its deadline by ${hangGraceMs} ms`;
    this.#graces.set(
      lease,
      clock.after(hangGraceMs, () => onHung(why)),
    );
  }

  /** Resolves when no call is inside. */
  whenIdle(): Promise<void> {
    if (this.#leases.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** The process is gone for good: timers end, the link closes, calls inside fail. */
  close(): void {
    for (const stop of this.#graces.values()) stop();
    this.#graces.clear();
    this.#options.link.close(this.#options.obituary());
  }

  /** The error a caller gets whose call was inside. */
  explain(error: KatamariError, call: Call): KatamariError {
    const why = `${this.name} failed while it worked on ${call.method}: ${error.message}. It is being replaced; send the call again if it may run twice`;
    return new KatamariError('resource_failed', why, error.facts, error);
  }
}
