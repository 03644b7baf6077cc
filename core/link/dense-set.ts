// What is under way, in no order, for whoever must find all of it at the end. Each entry knows its place, so that coming and going are a few
// assignments. No Set, for the reason told in pending-table.ts.

export interface DenseSetEntry {
  /** The roster's; -1 when it is on none. An entry is on one roster at most. */
  rosterPlace: number;
}

export class DenseSet<Entry extends DenseSetEntry> {
  #entries: Entry[] = [];

  get size(): number {
    return this.#entries.length;
  }

  add(entry: Entry): void {
    entry.rosterPlace = this.#entries.length;
    this.#entries.push(entry);
  }

  /** False when it was not on it. */
  remove(entry: Entry): boolean {
    const place = entry.rosterPlace;
    if (place === -1) return false;
    const last = this.#entries.pop() as Entry;
    if (last !== entry) {
      this.#entries[place] = last;
      last.rosterPlace = place;
    }
    entry.rosterPlace = -1;
    return true;
  }

  /** The first that fits, looking at one after the other. */
  find(fits: (entry: Entry) => boolean): Entry | undefined {
    return this.#entries.find(fits);
  }

  /** As it is now. */
  all(): readonly Entry[] {
    return [...this.#entries];
  }

  /** Takes all of them off. */
  takeAll(): readonly Entry[] {
    const all = this.#entries;
    this.#entries = [];
    for (const entry of all) entry.rosterPlace = -1;
    return all;
  }
}
