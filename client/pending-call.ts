// One call of a client, from its creation to its end. It is its own entry in the deadline wheel, so it needs no
// timer.

import type { DeadlineEntry, DenseSetEntry } from '../core/link/mod.ts';
import type { KatamariError } from '../core/mod.ts';
import { NOTHING } from '../core/thrift/mod.ts';
import type { CallOptions } from './options.ts';
import type { PreparedMethod } from './prepared-method.ts';
import type { RequestHeaders } from './request-headers.ts';

/**
 * - preparing: waits for the interface.
 * - waiting: waits for a connection or for room on it.
 * - sent: waits for a reply.
 * - pausing: failed, and waits for its retry.
 * - settled: ended.
 */
type PendingState = 'preparing' | 'waiting' | 'sent' | 'pausing' | 'settled';

/** The connection on which a call was sent. */
export interface SendingConnection {
  readonly address: string;
  /** Drops the call. A later reply to it is ignored. */
  forget(call: ClientCall): void;
  /** Drops a call that timed out. Several timeouts in silence close the connection as dead. */
  forgetTimedOut(call: ClientCall, nowMs: number): void;
}

export interface CallOwner {
  expired(call: ClientCall): void;
}

export class ClientCall implements DeadlineEntry, DenseSetEntry {
  // DeadlineEntry
  expiresAtMs: number;
  slot = -1;
  place = 0;

  index = -1;
  state: PendingState = 'preparing';
  /** For messages: `Calculator.add`. */
  readonly title: string;
  readonly createdAtMs: number;
  readonly timeoutMs: number;
  /** No retry starts after this time. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
  readonly headers: RequestHeaders;
  /** Set by a caller that wants facts about the reply. */
  readonly onReply: CallOptions['onReply'];
  prepared: PreparedMethod | undefined;
  args: Uint8Array = NOTHING;
  /** Set while the call is in state `sent`. */
  connection: SendingConnection | undefined;
  seqId = 0;
  sentAtMs = 0;
  tries = 0;
  /** Whether one of the tries may have run: it got no reply, or an error that does not rule it out. */
  mayHaveRun = false;
  /** Error of the last try. */
  lastError: KatamariError | undefined;
  readonly promise: Promise<unknown>;
  readonly #owner: CallOwner;
  #resolve!: (value: unknown) => void;
  #reject!: (error: Error) => void;

  constructor(
    owner: CallOwner,
    title: string,
    headers: RequestHeaders,
    nowMs: number,
    timeoutMs: number,
    { signal, onReply }: CallOptions,
  ) {
    this.#owner = owner;
    this.title = title;
    this.headers = headers;
    this.createdAtMs = nowMs;
    this.timeoutMs = timeoutMs;
    this.deadlineMs = nowMs + timeoutMs;
    this.expiresAtMs = this.deadlineMs + GRACE_MS;
    this.signal = signal;
    this.onReply = onReply;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isSettled(): boolean {
    return this.state === 'settled';
  }

  /** Called by the deadline wheel. */
  expire(): void {
    this.#owner.expired(this);
  }

  /**
   * Returns the timeout that is sent to the mesh, in ms. A call that is sent within 10 ms of its creation gets its
   * full timeout, so that the encoded headers can be reused.
   */
  timeLeftMs(nowMs: number): number {
    const elapsedMs = nowMs - this.createdAtMs;
    return Math.max(1, Math.ceil(elapsedMs < SOON_MS ? this.timeoutMs : this.timeoutMs - elapsedMs));
  }

  /** Only the channel may call `resolve` and `reject`, because it counts the calls. */
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

/** At the deadline of a call the mesh sends an error with the reason. The client waits this much longer for it. */
const GRACE_MS = 50;
const SOON_MS = 10;
