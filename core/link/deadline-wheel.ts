// One timer for all deadlines: a timing wheel with a tick of 10 ms, which sleeps until the next slot with entries.
// Adding and removing an entry costs a few assignments; a timer per call costs an object, a list operation and a
// wake-up.

import { reportDefect, type Clock } from '../mod.ts';

/** Something with a deadline. Use a new one for each wait: `slot` and `place` belong to the wheel. */
export interface DeadlineEntry {
  /** Time on the clock of the wheel, in ms. */
  expiresAtMs: number;
  expire(): void;
  /** Slot of the wheel; -1 when it is not on the wheel. */
  slot: number;
  /** Index in the slot. */
  place: number;
}

export class DeadlineWheel {
  readonly #clock: Clock;
  readonly #onDefect: (error: unknown) => void;
  readonly #slots: DeadlineEntry[][] = Array.from({ length: SLOTS }, () => []);
  #count = 0;
  /** The last tick that was handled. */
  #tick: number;
  /** The tick for which the timer is set; Infinity for none. */
  #wakeTick = Number.POSITIVE_INFINITY;
  #stopTimer: (() => void) | undefined;

  /** @param onDefect called with the error of an `expire` that throws; by default it is an uncaught error */
  constructor(clock: Clock, onDefect: (error: unknown) => void = reportDefect) {
    this.#clock = clock;
    this.#onDefect = onDefect;
    this.#tick = Math.floor(clock.nowMs() / TICK_MS);
  }

  /** Calls `entry.expire()` at its time, at most one tick late. A time in the past expires at the next tick. */
  add(entry: DeadlineEntry): void {
    if (this.#count === 0) this.#tick = Math.floor(this.#clock.nowMs() / TICK_MS);
    const tick = Math.max(this.#tick + 1, Math.ceil(entry.expiresAtMs / TICK_MS));
    const slot = tick % SLOTS;
    const slotEntries = this.#slots[slot] as DeadlineEntry[];
    entry.slot = slot;
    entry.place = slotEntries.length;
    slotEntries.push(entry);
    this.#count++;
    if (tick < this.#wakeTick) this.#wakeAt(tick);
  }

  /** Removes an entry; does nothing when it is not on the wheel. */
  remove(entry: DeadlineEntry): void {
    if (entry.slot === -1) return;
    const slotEntries = this.#slots[entry.slot] as DeadlineEntry[];
    const last = slotEntries.pop() as DeadlineEntry;
    if (last !== entry) {
      slotEntries[entry.place] = last;
      last.place = entry.place;
    }
    entry.slot = -1;
    this.#count--;
  }

  readonly #onTick = (): void => {
    const nowMs = this.#clock.nowMs();
    const nowTick = Math.floor(nowMs / TICK_MS);
    // Nothing is earlier, so entries that are added meanwhile set no timer.
    this.#wakeTick = Number.NEGATIVE_INFINITY;
    // If the process was paused for long, check every slot once, not once per missed round.
    const first = Math.max(this.#tick + 1, nowTick - SLOTS + 1);
    for (let tick = first; tick <= nowTick; tick++) {
      this.#tick = tick;
      this.#expireSlot(tick % SLOTS, nowMs);
    }
    this.#wakeTick = Number.POSITIVE_INFINITY;
    if (this.#count > 0) this.#wakeAt(this.#nextTick());
  };

  /** The next tick whose slot has an entry, of this round or a later one. */
  #nextTick(): number {
    let tick = this.#tick + 1;
    while ((this.#slots[tick % SLOTS] as DeadlineEntry[]).length === 0) tick++;
    return tick;
  }

  #wakeAt(tick: number): void {
    this.#stopTimer?.();
    this.#wakeTick = tick;
    this.#stopTimer = this.#clock.after(Math.max(DELAY_MIN_MS, tick * TICK_MS - this.#clock.nowMs()), this.#onTick);
  }

  #expireSlot(slot: number, nowMs: number): void {
    const due = (this.#slots[slot] as DeadlineEntry[]).filter((entry) => entry.expiresAtMs <= nowMs);
    for (const entry of due) {
      // An entry that expired before it may have removed it.
      if (entry.slot === -1) continue;
      this.remove(entry);
      try {
        entry.expire();
      } catch (error) {
        // The others must not expire late.
        this.#onDefect(error);
      }
    }
  }
}

const TICK_MS = 10;
const DELAY_MIN_MS = 1;
/** A round takes 20.48 s; entries further away stay in their slot for more rounds. */
const SLOTS = 2048;
