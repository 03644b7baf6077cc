// One call from the moment it is made to its one end. It is its own entry in the wheel of deadlines, so that it makes
// no timer.

import type { DeadlineEntry, DenseSetEntry } from '../core/link/mod.ts';
import type { KatamariError } from '../core/mod.ts';
import { NOTHING } from '../core/thrift/mod.ts';
import type { PreparedMethod } from './prepared-method.ts';
import type { RequestHeaders } from './request-headers.ts';

/**
 * - preparing: the interface is not known yet. - waiting: for a connection, or for room on it. - sent: on a
 *   connection; an answer may come.
 * - pausing: was refused, and is sent again after a moment. - settled: the caller has heard.
 */
type PendingState = 'preparing' | 'waiting' | 'sent' | 'pausing' | 'settled';

/** What a call needs of the connection that it was sent on. */
export interface SendingConnection {
  readonly address: string;
  /** Drops the call; a reply that comes later is ignored. */
  forget(call: ClientCall): void;
  /** Drops a call that ran out of time; counts as a sign that the connection is dead. */
  forgetLate(call: ClientCall, nowMs: number): void;
}

export interface CallOwner {
  expired(call: ClientCall): void;
}

export class ClientCall implements DeadlineEntry, DenseSetEntry {
  // For the wheel.
  expiresAtMs: number;
  slot = -1;
  place = 0;

  index = -1;
  state: PendingState = 'preparing';
  /** For messages: `Calculator.add`. */
  readonly title: string;
  readonly madeAtMs: number;
  readonly timeoutMs: number;
  /** No further try begins after this. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  readonly wishes: RequestHeaders;
  plan: PreparedMethod | undefined;
  args: Uint8Array = NOTHING;
  /** While it is sent. */
  connection: SendingConnection | undefined;
  seqId = 0;
  sentAtMs = 0;
  tries = 0;
  /** One of the tries was not answered, or with less than certainty that it did not run. */
  mayHaveRun = false;
  /** Why it was not answered when it was sent last. */
  lastError: KatamariError | undefined;
  readonly promise: Promise<unknown>;
  readonly #owner: CallOwner;
  #resolve!: (value: unknown) => void;
  #reject!: (error: Error) => void;

  constructor(
    owner: CallOwner,
    title: string,
    wishes: RequestHeaders,
    nowMs: number,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ) {
    this.#owner = owner;
    this.title = title;
    this.wishes = wishes;
    this.madeAtMs = nowMs;
    this.timeoutMs = timeoutMs;
    this.deadlineMs = nowMs + timeoutMs;
    this.expiresAtMs = this.deadlineMs + GRACE_MS;
    this.signal = signal;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isSettled(): boolean {
    return this.state === 'settled';
  }

  /** For the wheel. */
  expire(): void {
    this.#owner.expired(this);
  }

  /**
   * What the mesh is told that it may take. A call that leaves soon after it was made says all of its time, so that
   * its header can be used again.
   */
  timeLeftMs(nowMs: number): number {
    const goneMs = nowMs - this.madeAtMs;
    return Math.max(1, Math.ceil(goneMs < SOON_MS ? this.timeoutMs : this.timeoutMs - goneMs));
  }

  /** Only the one who keeps the books settles. */
  resolve(value: unknown): void {
    this.#end();
    this.#resolve(value);
  }

  reject(error: Error): void {
    this.#end();
    this.#reject(error);
  }

  #end(): void {
    this.state = 'settled';
    this.args = NOTHING;
    this.connection = undefined;
  }
}

/** The mesh answers at a call's deadline why it has no result; its reason is worth waiting for. */
const GRACE_MS = 50;
const SOON_MS = 10;
