// Calls that wait, each with a deadline and the abort signal of its caller. Three places use it: the queue of a pool, the calls that
// came before the first chassis of their deployment, and the calls whose service has no reachable manager.
//
// One object per waiting call is the node of the list, the entry of the deadline wheel and the listener of the abort signal. Joining,
// leaving from any position and waking take constant time and create no promise, no timer and no closure. A call that does not wait costs
// nothing here.

import { KatamariError, type Clock } from '../mod.ts';
import type { DeadlineEntry, DeadlineWheel } from './deadline-wheel.ts';

/** What a wait needs to know of its call. */
export interface Waitable {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

/** A call that can wait in one `WaitingCalls` at a time. */
export abstract class WaitingCall implements DeadlineEntry {
  /** Position in order of arrival; `WaitingCalls.putBack` sorts by it. */
  readonly arrival: number;
  readonly expiresAtMs: number;
  /** Owned by the deadline wheel. */
  slot = -1;
  place = -1;
  /** Owned by the list. */
  next: this | undefined = undefined;
  previous: this | undefined = undefined;
  list: { remove(call: WaitingCall): void } | undefined = undefined;
  readonly #signal: AbortSignal | undefined;
  #isListening = false;

  constructor({ deadlineMs, signal }: Waitable, arrival: number) {
    this.expiresAtMs = deadlineMs;
    this.#signal = signal;
    this.arrival = arrival;
  }

  /** The deadline has passed. The call may still be in its list. */
  abstract expire(): void;

  /** The caller has gone. The call has left its list. */
  protected abstract onCallerGone(): void;

  /** Listens for the abort of the caller; a second request changes nothing. */
  watchCaller(): void {
    if (this.#signal === undefined || this.#isListening) return;
    this.#isListening = true;
    this.#signal.addEventListener('abort', this, ONCE);
  }

  unwatchCaller(): void {
    if (!this.#isListening) return;
    this.#isListening = false;
    this.#signal?.removeEventListener('abort', this);
  }

  /** EventListenerObject: the abort signal fired. */
  handleEvent(): void {
    this.leave();
    this.onCallerGone();
  }

  /** Takes the call out of its list; does nothing when it is in none. */
  leave(): void {
    this.list?.remove(this);
  }
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
   * Puts a call back in order of arrival, also into a full list: the bound let it in before. Takes time in proportion to the calls that
   * arrived earlier and still wait.
   */
  putBack(call: Entry): void {
    let next = this.head;
    while (next !== undefined && next.arrival < call.arrival) next = next.next;
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
    const { next, previous } = call;
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
    const previous = next === undefined ? this.#tail : next.previous;
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
  readonly #lists = new Map<string, WaitingCalls<KeyedCall>>();
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
   * Lets a call wait until its key is resumed or refused, its deadline passes or its caller goes; the end is told to `waiter`.
   * @returns false when the key or the sum is full: the call does not wait and `waiter` is told nothing
   */
  add(key: string, keyMax: number, call: Waitable, waiter: Waiter): boolean {
    if (this.isFull(key, keyMax)) return false;
    const list = this.#lists.get(key) ?? new WaitingCalls<KeyedCall>(keyMax);
    list.max = keyMax;
    const { clock, deadlines } = this.#options;
    const waiting = new KeyedCall(call, this.#arrivals++, clock, waiter, (left) => this.#onLeft(key, list, left));
    list.push(waiting);
    this.#lists.set(key, list);
    this.#length++;
    deadlines.add(waiting);
    if (call.signal?.aborted === true) waiting.handleEvent();
    else waiting.watchCaller();
    return true;
  }

  /**
   * Resumes the calls of a key, or of all keys, oldest first within a key. A call that has to wait again joins the end of its list and is
   * not resumed a second time.
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
        waiting.leave();
        taken.push(waiting);
      }
    }
    return taken;
  }

  #onLeft(key: string, list: WaitingCalls<KeyedCall>, left: KeyedCall): void {
    this.#length--;
    this.#options.deadlines.remove(left);
    left.unwatchCaller();
    if (list.length === 0 && this.#lists.get(key) === list) this.#lists.delete(key);
  }
}

/** A call that waits under a key. */
class KeyedCall extends WaitingCall {
  readonly #startMs: number;
  readonly #clock: Clock;
  readonly #waiter: Waiter;
  readonly #onLeft: (left: KeyedCall) => void;

  constructor(call: Waitable, arrival: number, clock: Clock, waiter: Waiter, onLeft: (left: KeyedCall) => void) {
    super(call, arrival);
    this.#clock = clock;
    this.#startMs = clock.nowMs();
    this.#waiter = waiter;
    this.#onLeft = onLeft;
  }

  override leave(): void {
    if (this.list === undefined) return;
    super.leave();
    this.#onLeft(this);
  }

  resume(): void {
    this.#waiter.resume(this.#clock.nowMs() - this.#startMs);
  }

  fail(error: KatamariError): void {
    this.#waiter.fail(error);
  }

  override expire(): void {
    this.leave();
    this.#waiter.fail(this.#waiter.timeoutError(this.#clock.nowMs() - this.#startMs));
  }

  protected override onCallerGone(): void {
    this.#waiter.fail(callerGone());
  }
}

/** The error of a call whose caller has disconnected or canceled it before it ran. */
export function callerGone(): KatamariError {
  return new KatamariError('cancelled', 'The caller has gone', { notRun: true });
}

const ONCE = { once: true } as const;
