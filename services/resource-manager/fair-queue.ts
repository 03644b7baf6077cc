// The queue of a pool: calls that wait, in one list per caller, so that a caller with many calls does not delay the
// others. Callers take turns by deficit round robin: at each turn a caller may use a quantum of service time and keeps
// what is left of it, so a caller with long calls gets fewer of them. The calls of one caller keep their order. With
// one caller this is a FIFO queue.
//
// When the queue is full, a call of a caller with a smaller share takes the place of the newest call of the caller with
// the most waiting calls.

import { WaitingCalls, type WaitingCall } from '../../core/link/mod.ts';

/** A call that can wait in a `FairQueue`. */
export interface FairCall extends WaitingCall {
  /** Calls with equal text share a list. */
  readonly queueKey: string;
  /** Expected service time in quanta: 1 for a call that takes as long as the average. */
  cost(): number;
}

export class FairQueue<Entry extends FairCall> {
  /** Callers with waiting calls. */
  readonly #lists = new Map<string, CallerList<Entry>>();
  /** The caller whose turn it is; the others follow in a ring. */
  #turn: CallerList<Entry> | undefined;
  /** Whether that caller got the quantum of this turn. */
  #isGranted = false;
  #length = 0;
  /** Maximum number of waiting calls. It may change at any time; a lower value drops no call that already waits. */
  max: number;

  constructor(max: number) {
    this.max = max;
  }

  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#length >= this.max;
  }

  /** Number of callers with waiting calls. */
  get callers(): number {
    return this.#lists.size;
  }

  /** Number of waiting calls of one caller. */
  countOf(key: string): number {
    return this.#lists.get(key)?.length ?? 0;
  }

  /**
   * Number of calls that are served before a further call of this caller, if callers share evenly: its own, and as many
   * of each other caller.
   */
  aheadOf(key: string): number {
    const own = this.countOf(key);
    const others = this.#lists.size - (own === 0 ? 0 : 1);
    return Math.min(this.#length, own + others * (own + 1));
  }

  /** Appends a call, even if the queue is full; see `makeRoomFor`. */
  push(call: Entry): void {
    this.#listOf(call.queueKey).append(call);
  }

  /**
   * Removes and returns the call that must leave a full queue for a call of this caller; undefined when no other caller
   * has two calls more than it.
   */
  makeRoomFor(key: string): Entry | undefined {
    let largest: CallerList<Entry> | undefined;
    for (const list of this.#lists.values()) if (largest === undefined || list.length > largest.length) largest = list;
    if (largest === undefined || largest.key === key || largest.length < this.countOf(key) + 2) return undefined;
    const newest = largest.tail;
    if (newest !== undefined) largest.remove(newest);
    return newest;
  }

  /** The call that is served next. */
  get head(): Entry | undefined {
    // Each turn adds a quantum, and a call costs at most COST_MAX of them, so the search ends.
    for (let list = this.#turn; list !== undefined; list = this.#turn) {
      if (!this.#isGranted) list.deficit++;
      this.#isGranted = true;
      const first = list.head as Entry;
      if (list.deficit >= costOf(first)) return first;
      this.#takeTurn(list.nextList);
    }
    return undefined;
  }

  /** Removes and returns the call that is served next. */
  shift(): Entry | undefined {
    const { head } = this;
    if (head === undefined) return undefined;
    const list = head.list as CallerList<Entry>;
    list.deficit -= costOf(head);
    list.remove(head);
    return head;
  }

  /**
   * Puts a call that was served but did not run back at its old position among the calls of its caller, even if the
   * queue is full. Its caller is next, and gets back what the call cost.
   */
  putBack(call: Entry): void {
    const list = this.#listOf(call.queueKey);
    list.putBack(call);
    list.deficit = Math.min(COST_MAX, list.deficit + costOf(call));
    this.#turn = list;
    this.#isGranted = true;
  }

  #takeTurn(list: CallerList<Entry> | undefined): void {
    this.#turn = list;
    this.#isGranted = false;
  }

  #listOf(key: string): CallerList<Entry> {
    const known = this.#lists.get(key);
    if (known !== undefined) return known;
    const list: CallerList<Entry> = new CallerList(key, {
      onJoined: () => this.#length++,
      onLeft: () => {
        this.#length--;
        if (list.length === 0) this.#leaveRing(list);
      },
    });
    this.#lists.set(key, list);
    // A new caller comes last in the round that runs.
    const turn = this.#turn;
    if (turn === undefined) this.#takeTurn(list);
    else list.joinRingBefore(turn);
    return list;
  }

  #leaveRing(list: CallerList<Entry>): void {
    this.#lists.delete(list.key);
    const next = list.leaveRing();
    if (this.#turn === list) this.#takeTurn(next);
  }
}

/** The waiting calls of one caller, oldest first, and its place in the ring of callers. */
class CallerList<Entry extends FairCall> extends WaitingCalls<Entry> {
  readonly key: string;
  /** Quanta that the caller may use. Lost when its last call leaves. */
  deficit = 0;
  nextList: CallerList<Entry> = this;
  #previousList: CallerList<Entry> = this;
  readonly #hooks: { readonly onJoined: () => void; readonly onLeft: () => void };

  constructor(key: string, hooks: { readonly onJoined: () => void; readonly onLeft: () => void }) {
    super(Number.POSITIVE_INFINITY);
    this.key = key;
    this.#hooks = hooks;
  }

  append(call: Entry): void {
    this.push(call);
    this.#hooks.onJoined();
  }

  override putBack(call: Entry): void {
    super.putBack(call);
    this.#hooks.onJoined();
  }

  override remove(call: Entry): void {
    if (call.list !== this) return;
    super.remove(call);
    this.#hooks.onLeft();
  }

  joinRingBefore(other: CallerList<Entry>): void {
    this.nextList = other;
    this.#previousList = other.#previousList;
    other.#previousList.nextList = this;
    other.#previousList = this;
  }

  /** Returns the next caller; undefined when this was the only one. */
  leaveRing(): CallerList<Entry> | undefined {
    const next = this.nextList;
    if (next === this) return undefined;
    this.#previousList.nextList = next;
    next.#previousList = this.#previousList;
    return next;
  }
}

function costOf(call: FairCall): number {
  return Math.min(COST_MAX, Math.max(COST_MIN, call.cost()));
}

/** A call that is much longer than the average waits for at most this many turns of its caller. */
const COST_MAX = 16;
/** Calls that are much shorter than the average: a caller gets at most this share of a quantum's worth of them. */
const COST_MIN = 1 / 16;
