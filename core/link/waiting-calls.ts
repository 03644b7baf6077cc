// Calls that wait, each with a deadline and the abort signal of its caller. It has three uses: the queue of a pool,
// the calls that arrived before the first chassis of their deployment was ready, and the calls whose service has no
// reachable manager.
//
// One object per waiting call is the node of the list, the entry of the deadline wheel and the listener of the abort
// signal. Joining, leaving from any position and waking take constant time and create no promise and no timer.

import { KatamariError, type Clock } from '../mod.ts';
import type { DeadlineEntry, DeadlineWheel } from './deadline-wheel.ts';

/** The fields of a call that a wait needs. */
export interface Waitable {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * A call that can wait in one `WaitingCalls` at a time. This is an interface with three functions, not a base class.
 * A pool creates one object per call, even for a call that does not wait, and `super()` would cost 20 ns of the 165
 * ns of such a call on Node 20.
 */
export interface WaitingCall extends DeadlineEntry {
  readonly call: Waitable;
  /** Position in order of arrival; `WaitingCalls.putBack` sorts by it. */
  readonly arrival: number;
  /** Owned by the list. */
  next: WaitingCall | undefined;
  previous: WaitingCall | undefined;
  list: { remove(call: WaitingCall): void } | undefined;
  /** Owned by `watchCaller` and `unwatchCaller`. */
  isListening: boolean;
  /** Called when the caller cancels the call or disconnects. The call is still in its list. */
  handleEvent(): void;
}

/** Calls `handleEvent` when the signal of the caller aborts. A second `watchCaller` has no effect. */
export function watchCaller(waiting: WaitingCall): void {
  const { signal } = waiting.call;
  if (signal === undefined || waiting.isListening) return;
  waiting.isListening = true;
  signal.addEventListener('abort', waiting, ONCE);
}

export function unwatchCaller(waiting: WaitingCall): void {
  if (!waiting.isListening) return;
  waiting.isListening = false;
  waiting.call.signal?.removeEventListener('abort', waiting);
}

/** Removes a call from its list; does nothing when it is in none. */
export function leaveList(waiting: WaitingCall): void {
  waiting.list?.remove(waiting);
}

/** A bounded list of waiting calls, oldest first. All operations take constant time, except `putBack`. */
export class WaitingCalls<Entry extends WaitingCall> {
  head: Entry | undefined = undefined;
  #tail: Entry | undefined = undefined;
  length = 0;
  /** Maximum number of waiting calls. It may change at any time; a lower value drops no call that already waits. */
  max: number;

  constructor(max: number) {
    this.max = max;
  }

  get isFull(): boolean {
    return this.length >= this.max;
  }

  /** The newest call. */
  get tail(): Entry | undefined {
    return this.#tail;
  }

  /** Appends a call. Returns false when the list is full. */
  push(call: Entry): boolean {
    if (this.isFull) return false;
    this.#insertBefore(call, undefined);
    return true;
  }

  /**
   * Requeues a call in order of arrival, even if the list is full, because the call was admitted before. Takes time
   * in proportion to the calls that arrived earlier and still wait.
   */
  putBack(call: Entry): void {
    let next = this.head;
    while (next !== undefined && next.arrival < call.arrival) next = next.next as Entry | undefined;
    this.#insertBefore(call, next);
  }

  /** Removes and returns the oldest call. */
  shift(): Entry | undefined {
    const { head } = this;
    if (head !== undefined) this.remove(head);
    return head;
  }

  /** Removes a call; does nothing when it is not in this list. */
  remove(call: Entry): void {
    if (call.list !== this) return;
    const next = call.next as Entry | undefined;
    const previous = call.previous as Entry | undefined;
    if (previous === undefined) this.head = next;
    else previous.next = next;
    if (next === undefined) this.#tail = previous;
    else next.previous = previous;
    call.list = undefined;
    // A removed call in the old generation would otherwise keep the whole chain after it alive.
    call.next = undefined;
    call.previous = undefined;
    this.length--;
  }

  #insertBefore(call: Entry, next: Entry | undefined): void {
    const previous = next === undefined ? this.#tail : (next.previous as Entry | undefined);
    call.next = next;
    call.previous = previous;
    if (previous === undefined) this.head = call;
    else previous.next = call;
    if (next === undefined) this.#tail = call;
    else next.previous = call;
    call.list = this;
    this.length++;
  }
}

/** Receives the end of a wait in `WaitingCallsByKey`. Either `resume` or `fail` is called, once. */
export interface Waiter {
  /** @param waitedMs time that the call has waited */
  resume(waitedMs: number): void;
  /** Called when the deadline passed, the caller disconnected, or the owner refused the calls of the key. */
  fail(error: KatamariError): void;
  /** Returns the error for a call whose deadline passed while it waited. */
  timeoutError(waitedMs: number): KatamariError;
}

export interface WaitingCallsByKeyOptions {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** Maximum number of waiting calls under all keys together. */
  readonly max: number;
}

/** Calls that wait for an event, by key, with a limit per key and in total. A key without calls takes no memory. */
export class WaitingCallsByKey {
  readonly #options: WaitingCallsByKeyOptions;
  readonly #lists = new Map<string, KeyedList>();
  #length = 0;
  #arrivals = 0;

  constructor(options: WaitingCallsByKeyOptions) {
    this.#options = options;
  }

  /** Returns the number of waiting calls, of one key or in total. */
  count(key?: string): number {
    return key === undefined ? this.#length : (this.#lists.get(key)?.length ?? 0);
  }

  /** Whether one more call would exceed the limit of its key or the total limit. */
  isFull(key: string, keyMax: number): boolean {
    return this.#length >= this.#options.max || this.count(key) >= keyMax;
  }

  /**
   * Queues a call until its key is resumed or refused, its deadline passes or its caller disconnects. Then calls
   * `waiter`.
   * @returns false when the limit of the key or the total limit is reached; the call does not wait and `waiter` is
   * not called
   */
  add(key: string, keyMax: number, call: Waitable, waiter: Waiter): boolean {
    if (this.isFull(key, keyMax)) return false;
    const list = this.#lists.get(key) ?? new KeyedList(key, keyMax, this.#onLeft);
    list.max = keyMax;
    const waiting = new KeyedCall(call, this.#arrivals++, this.#options.clock, waiter);
    list.push(waiting);
    this.#lists.set(key, list);
    this.#length++;
    this.#options.deadlines.add(waiting);
    if (call.signal?.aborted === true) waiting.handleEvent();
    else watchCaller(waiting);
    return true;
  }

  /**
   * Resumes the calls of a key, or of all keys, oldest first within a key. A call that must wait again joins the end
   * of its list and is not resumed a second time.
   */
  resume(key?: string): void {
    for (const waiting of this.#take(key)) waiting.resume();
  }

  /** Fails the calls of a key, or of all keys, with an error made for each. */
  refuse(error: () => KatamariError, key?: string): void {
    for (const waiting of this.#take(key)) waiting.fail(error());
  }

  /**
   * Removes and returns the calls. None is resumed or failed before all are out, so they cannot disturb the lists.
   */
  #take(key: string | undefined): KeyedCall[] {
    const lists = key === undefined ? [...this.#lists.values()] : [this.#lists.get(key)];
    const taken: KeyedCall[] = [];
    for (const list of lists) {
      for (let waiting = list?.head; waiting !== undefined; waiting = list?.head) {
        leaveList(waiting);
        taken.push(waiting);
      }
    }
    return taken;
  }

  readonly #onLeft = (list: KeyedList, left: KeyedCall): void => {
    this.#length--;
    this.#options.deadlines.remove(left);
    unwatchCaller(left);
    if (list.length === 0) this.#lists.delete(list.key);
  };
}

/** The calls of one key. Notifies its owner of every call that leaves, for any reason. */
class KeyedList extends WaitingCalls<KeyedCall> {
  readonly key: string;
  readonly #onLeft: (list: KeyedList, left: KeyedCall) => void;

  constructor(key: string, max: number, onLeft: (list: KeyedList, left: KeyedCall) => void) {
    super(max);
    this.key = key;
    this.#onLeft = onLeft;
  }

  override remove(call: KeyedCall): void {
    if (call.list !== this) return;
    super.remove(call);
    this.#onLeft(this, call);
  }
}

/** A call that waits under a key. */
class KeyedCall implements WaitingCall {
  readonly call: Waitable;
  readonly arrival: number;
  readonly expiresAtMs: number;
  slot = -1;
  place = -1;
  next: KeyedCall | undefined = undefined;
  previous: KeyedCall | undefined = undefined;
  list: KeyedList | undefined = undefined;
  isListening = false;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #waiter: Waiter;

  constructor(call: Waitable, arrival: number, clock: Clock, waiter: Waiter) {
    this.call = call;
    this.arrival = arrival;
    this.expiresAtMs = call.deadlineMs;
    this.#clock = clock;
    this.#startMs = clock.nowMs();
    this.#waiter = waiter;
  }

  resume(): void {
    this.#waiter.resume(this.#clock.nowMs() - this.#startMs);
  }

  fail(error: KatamariError): void {
    this.#waiter.fail(error);
  }

  expire(): void {
    leaveList(this);
    this.#waiter.fail(this.#waiter.timeoutError(this.#clock.nowMs() - this.#startMs));
  }

  handleEvent(): void {
    leaveList(this);
    this.#waiter.fail(callerGone());
  }
}

/** The error of a call whose caller has disconnected or canceled it before it ran. */
export function callerGone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone', { notRun: true });
}

const ONCE = { once: true } as const;
