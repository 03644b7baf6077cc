// One timer for all deadlines: a wheel of slots, a tick each 10 ms, running only while something waits. Adding and removing an entry
// costs a few assignments, where a timer per call costs an object, a list operation and a wake-up each.

import type { Clock } from '../mod.ts';

/** Something that must end at a time. Keep one per wait and reuse nothing: `slot` belongs to the wheel. */
export interface DeadlineEntry {
  /** On the wheel's clock, in ms. */
  expiresAtMs: number;
  expire(): void;
  /** Where the wheel keeps it; -1 when it does not. */
  slot: number;
  /** Its place in the slot. */
  place: number;
}

export class DeadlineWheel {
  readonly #clock: Clock;
  readonly #slots: DeadlineEntry[][] = Array.from({ length: SLOTS }, () => []);
  #count = 0;
  /** The tick that was worked off last. */
  #tick: number;
  #isTicking = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#tick = Math.floor(clock.nowMs() / TICK_MS);
  }

  /** Calls `entry.expire()` at its time, at most one tick late; at the next tick when the time is past. */
  add(entry: DeadlineEntry): void {
    if (this.#count === 0) this.#tick = Math.floor(this.#clock.nowMs() / TICK_MS);
    const tick = Math.max(this.#tick + 1, Math.ceil(entry.expiresAtMs / TICK_MS));
    const slot = tick % SLOTS;
    const slotEntries = this.#slots[slot] as DeadlineEntry[];
    entry.slot = slot;
    entry.place = slotEntries.length;
    slotEntries.push(entry);
    this.#count++;
    this.#keepTicking();
  }

  /** Takes an entry back; fine when it is not there. */
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
    this.#isTicking = false;
    const nowMs = this.#clock.nowMs();
    const nowTick = Math.floor(nowMs / TICK_MS);
    // After a long pause of the process every slot is looked at once, not once per missed round.
    const first = Math.max(this.#tick + 1, nowTick - SLOTS + 1);
    for (let tick = first; tick <= nowTick; tick++) this.#expireSlot(tick % SLOTS, nowMs);
    this.#tick = nowTick;
    if (this.#count > 0) this.#keepTicking();
  };

  #keepTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#clock.after(TICK_MS, this.#onTick);
  }

  #expireSlot(slot: number, nowMs: number): void {
    const due = (this.#slots[slot] as DeadlineEntry[]).filter((entry) => entry.expiresAtMs <= nowMs);
    for (const entry of due) {
      // An earlier one may have taken it back meanwhile.
      if (entry.slot === -1) continue;
      this.remove(entry);
      entry.expire();
    }
  }
}

const TICK_MS = 10;
/** 20.48 s a round; entries further away stay in their slot for more rounds. */
const SLOTS = 2048;
