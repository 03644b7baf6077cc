// A resource: one introduced chassis with its places, the calls in it and its link. It knows when a call has outlived its deadline by the
// grace time, and says so to its slot, which kills and replaces the process.
//
// A chassis that says it keeps calls in line is sent the next ones before it has answered the one it works on: it then goes from one to the
// next without sleeping, and both ends read and write several messages at a time, which doubles what small calls come to. It begins each
// after it has written the answer to the one before, so those behind a call that is not answered have not begun, but for the first of them when the
// answer is on its way here. They are taken back, to be served by others, when the chassis dies, or has answered nothing for STUCK_MS; only calls
// that may run twice are ever sent ahead.

import type { ReplySink } from '../../core/link/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import type { Call } from '../../core/rpc/mod.ts';
import type { Lease } from './lease.ts';

/** What is asked of the way to a chassis: a Link, or what there is in place of one to a plain server. */
export interface ResourceLink {
  readonly isOpen: boolean;
  /** @returns what `cancel` takes @throws KatamariError when it is not open */
  send(call: Call, sink: ReplySink, nowMs: number): number;
  /** The sink of that call hears nothing any more. */
  cancel(id: number): boolean;
  close(why?: string): void;
}

export interface ResourceOptions {
  /** `Service@version/index` */
  readonly name: string;
  readonly link: ResourceLink;
  /** Calls it works on at once. */
  readonly places: number;
  /** Calls that it keeps in line beyond the one it works on; means something when it has one place. */
  readonly ahead: number;
  readonly hangGraceMs: number;
  readonly clock: Clock;
  /** A call outlived its deadline by the grace time. */
  readonly onHung: (why: string) => void;
  /** The chassis asked to be replaced with its answer. */
  readonly onRetire: () => void;
  /** Told after each call that was answered. */
  readonly onServed: () => void;
  /** What is known of the death of its process, for the error of calls that were inside: `exited with status 1`. */
  readonly exitReason: () => string;
}

export class Resource {
  readonly #options: ResourceOptions;
  /** In the order of their coming; few, and no Set, for the reason told in core/link/pending-table.ts. */
  readonly #leases: Lease[] = [];
  /** Timers of calls that are past their deadline. */
  readonly #graces = new Map<Lease, () => void>();
  #onIdle: (() => void) | undefined;
  /** The call it works on is of a kind that takes no time to speak of. */
  #isQuick = false;
  /** Has answered nothing for a while, so nothing is sent ahead until it does. */
  #isStuck = false;
  #stopLooking: (() => void) | undefined;
  /** Calls served at the last look. */
  #servedBefore = 0;
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
    return this.#leases.length < this.#options.places && this.#options.link.isOpen && !this.#isRetired;
  }

  /** Whether it may be sent a quick call beyond the one it works on. */
  get hasPlaceAhead(): boolean {
    const { places, ahead, link } = this.#options;
    if (ahead === 0 || places !== 1 || !this.#isQuick || this.#isStuck) return false;
    return this.#leases.length <= ahead && link.isOpen && !this.#isRetired;
  }

  /** It takes no further call. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#options.onRetire();
  }

  get inFlight(): number {
    return this.#leases.length;
  }

  /** Sends the call; false when the link has closed and nothing was written. @throws KatamariError when this call cannot be written at all */
  take(lease: Lease, nowMs: number): boolean {
    if (!this.#options.link.isOpen) return false;
    lease.isAhead = this.#leases.length >= this.#options.places;
    if (lease.isAhead) this.#lookSoon();
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

  /** A call was answered, or failed: its place is free, and the next in line begins if there still is a chassis. */
  answered(lease: Lease, nowMs: number): void {
    if (!this.#remove(lease)) return;
    this.callsServed++;
    this.#isStuck = false;
    this.#graces.get(lease)?.();
    this.#graces.delete(lease);
    this.#options.onServed();
    if (this.#leases.length === 0) {
      this.#onIdle?.();
      return;
    }
    const next = this.#leases[0];
    if (next?.isAhead === true && this.#options.link.isOpen) next.begin(nowMs);
  }

  /** Takes it out; false when it was not in. */
  #remove(lease: Lease): boolean {
    const place = this.#leases.indexOf(lease);
    if (place === -1) return false;
    if (place === 0) this.#leases.shift();
    else this.#leases.splice(place, 1);
    return true;
  }

  /** Takes a call back that has not begun. */
  takeBack(lease: Lease): void {
    if (!this.#remove(lease)) return;
    this.#options.link.cancel(lease.linkId);
  }

  /** The deadline of a call inside has passed: its chassis gets the grace time to answer. */
  startKillTimer(lease: Lease): void {
    const { clock, hangGraceMs, onHung } = this.#options;
    const why = `${lease.call.method} outlived its deadline by ${hangGraceMs} ms`;
    this.#graces.set(
      lease,
      clock.after(hangGraceMs, () => onHung(why)),
    );
  }

  /** Resolves when no call is inside. */
  whenIdle(): Promise<void> {
    if (this.#leases.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  /** The process is gone for good: timers end, the link closes, calls inside fail. */
  close(): void {
    for (const stop of this.#graces.values()) stop();
    this.#graces.clear();
    this.#stopLooking?.();
    this.#options.link.close(this.#options.exitReason());
  }

  #lookSoon(): void {
    if (this.#stopLooking !== undefined) return;
    this.#servedBefore = this.callsServed;
    this.#stopLooking = this.#options.clock.after(STUCK_MS, () => this.#look());
  }

  #look(): void {
    this.#stopLooking = undefined;
    const ahead = this.#leases.filter((lease) => lease.isAhead);
    if (ahead.length === 0) return;
    if (this.callsServed !== this.#servedBefore) {
      this.#lookSoon();
      return;
    }
    this.#isStuck = true;
    for (const lease of ahead) {
      this.takeBack(lease);
      lease.requeue();
    }
  }

  /** The error a caller gets whose call was inside. */
  explain(error: KatamariError, call: Call): KatamariError {
    const why = `${this.name} failed while it worked on ${call.method}: ${error.message}. It is being replaced; send the call again if it may run twice`;
    return new KatamariError('resource_failed', why, error.facts, error);
  }
}

/** A chassis that works on calls that take a millisecond has answered one in this time, in ms. */
const STUCK_MS = 20;
