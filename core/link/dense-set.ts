// An unordered set of the calls in flight on a connection, which must all be found when it closes. Each entry stores
// its own index, so adding and removing are a few assignments. Not a Set, for the reason in the head of
// pending-table.ts.

export interface DenseSetEntry {
  /** Index in the set; -1 when it is in none. An entry can be in one set only. */
  index: number;
}

export class DenseSet<Entry extends DenseSetEntry> {
  #entries: Entry[] = [];

  get size(): number {
    return this.#entries.length;
  }

  add(entry: Entry): void {
    entry.index = this.#entries.length;
    this.#entries.push(entry);
  }

  /** Returns false when the entry was not in the set. */
  remove(entry: Entry): boolean {
    const place = entry.index;
    if (place === -1) return false;
    const last = this.#entries.pop() as Entry;
    if (last !== entry) {
      this.#entries[place] = last;
      last.index = place;
    }
    entry.index = -1;
    return true;
  }

  /** Returns the first entry that matches, by a linear search. */
  find(fits: (entry: Entry) => boolean): Entry | undefined {
    return this.#entries.find(fits);
  }

  /** Returns a copy of the entries. */
  all(): readonly Entry[] {
    return [...this.#entries];
  }

  /** Removes and returns all entries. */
  takeAll(): readonly Entry[] {
    const all = this.#entries;
    this.#entries = [];
    for (const entry of all) entry.index = -1;
    return all;
  }
}
