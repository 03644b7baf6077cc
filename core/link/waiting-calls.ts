// Calls that wait, each with a deadline and the abort signal of its caller. Three places use it: the queue of a pool,
// the calls that came before the first chassis of their deployment, and the calls whose service has no reachable
// manager.
//
// One object per waiting call is the node of the list, the entry of the deadline wheel and the listener of the abort
// signal. Joining, leaving from any position and waking take constant time and create no promise and no timer.

import { KatamariError, type Clock } from '../mod.ts';
import type { DeadlineEntry, DeadlineWheel } from './deadline-wheel.ts';

/** What a wait needs to know of its call. */
export interface Waitable {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * A call that can wait in one `WaitingCalls` at a time. An interface and three functions instead of a base class: a
 * pool makes one object for each of its calls, also for those that do not wait, and `super()` costs 20 ns of the 165
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
  /** The caller has gone. The call is still in its list. */
  handleEvent(): void;
}

/** Calls `handleEvent` when the caller of a call goes; a second request changes nothing. */
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

/** Takes a call out of its list; does nothing when it is in none. */
export function leaveList(waiting: WaitingCall): void {
  waiting.list?.remove(waiting);
}

/** A bounded list of waiting calls, oldest first. All operations take constant time, except `putBack`. */
export class WaitingCalls<Entry extends WaitingCall> {
  head: Entry | undefined = undefined;
  #tail: Entry | undefined = undefined;
  length = 0;
  /** Most calls that may wait; may change at any time, and drops no call that waits already. */
  max: number;

  constructor(max: number) {
    this.max = max;
  }

  get isFull(): boolean {
    return this.length >= this.max;
  }

  /** Appends a call; false when the list is full. */
  push(call: Entry): boolean {
    if (this.isFull) return false;
    this.#insertBefore(call, undefined);
    return true;
  }

  /**
   * Puts a call back in order of arrival, also into a full list: the bound let it in before. Takes time in proportion
   * to the calls that arrived earlier and still wait.
   */
  putBack(call: Entry): void {
    let next = this.head;
    while (next !== undefined && next.arrival < call.arrival) next = next.next as Entry | undefined;
    this.#insertBefore(call, next);
  }

  /** Takes out the oldest call. */
  shift(): Entry | undefined {
    const { head } = this;
    if (head !== undefined) this.remove(head);
    return head;
  }

  /** Takes a call out; does nothing when it is not in this list. */
  remove(call: Entry): void {
    if (call.list !== this) return;
    const next = call.next as Entry | undefined;
    const previous = call.previous as Entry | undefined;
    if (previous === undefined) this.head = next;
    else previous.next = next;
    if (next === undefined) this.#tail = previous;
    else next.previous = previous;
    call.list = undefined;
    // A call that has left and was promoted to the old generation would otherwise keep the whole chain behind it alive.
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

/** How the wait of a call in `WaitingCallsByKey` ends; exactly one of the first two is called, once. */
export interface Waiter {
  /** @param waitedMs time the call waited */
  resume(waitedMs: number): void;
  /** The deadline passed, the caller has gone, or the owner refused the calls of the key. */
  fail(error: KatamariError): void;
  /** The error for a call whose deadline passed while it waited. */
  timeoutError(waitedMs: number): KatamariError;
}

export interface WaitingCallsByKeyOptions {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** Most calls that may wait under all keys together. */
  readonly max: number;
}

/** Calls that wait for an event, by key, with a bound per key and in sum. A key without calls takes no memory. */
export class WaitingCallsByKey {
  readonly #options: WaitingCallsByKeyOptions;
  readonly #lists = new Map<string, KeyedList>();
  #length = 0;
  #arrivals = 0;

  constructor(options: WaitingCallsByKeyOptions) {
    this.#options = options;
  }

  /** Calls that wait, under one key or in sum. */
  count(key?: string): number {
    return key === undefined ? this.#length : (this.#lists.get(key)?.length ?? 0);
  }

  /** Whether one more call would exceed the bound of its key or the bound in sum. */
  isFull(key: string, keyMax: number): boolean {
    return this.#length >= this.#options.max || this.count(key) >= keyMax;
  }

  /**
   * Lets a call wait until its key is resumed or refused, its deadline passes or its caller goes; the end is told to
   * `waiter`.
   * @returns false when the key or the sum is full: the call does not wait and `waiter` is told nothing
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
   * Resumes the calls of a key, or of all keys, oldest first within a key. A call that has to wait again joins the
   * end of its list and is not resumed a second time.
   */
  resume(key?: string): void {
    for (const waiting of this.#take(key)) waiting.resume();
  }

  /** Fails the calls of a key, or of all keys, with an error made for each. */
  refuse(error: () => KatamariError, key?: string): void {
    for (const waiting of this.#take(key)) waiting.fail(error());
  }

  /** Takes the calls out before any of them is told, so that what they do cannot disturb the lists. */
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

/** The calls of one key. Tells its owner of every call that leaves, for whatever reason. */
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
