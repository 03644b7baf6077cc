// Calls without a reply, by number. The low bits of a number select its slot in a table, so adding and removing are a
// few assignments. The table grows to twice the largest number of calls in flight.
//
// It is not a Map, for speed and for memory. When entries come and go, a Map of V8 replaces its table now and then,
// and the old table, with its entries, points to the new one. A full garbage collection moves the current table to
// the old generation. After it is replaced, it keeps all its successors alive, each with its calls, until the next
// full collection. With a Map, garbage collection took a third of a busy mesh's time.

export class PendingTable<Entry> {
  #entries: (Entry | undefined)[] = slots(SLOTS_MIN);
  #numbers: number[] = numbers(SLOTS_MIN);
  #last = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @returns the number of the entry: 1 to 2^31 - 1, the next one whose slot is free */
  add(entry: Entry): number {
    if (this.#size * 2 >= this.#entries.length) this.#grow();
    const mask = this.#entries.length - 1;
    let number = this.#last;
    do number = number === NUMBER_MAX ? 1 : number + 1;
    while (this.#entries[number & mask] !== undefined);
    this.#last = number;
    this.#entries[number & mask] = entry;
    this.#numbers[number & mask] = number;
    this.#size++;
    return number;
  }

  /** Returns undefined when no entry has the number. */
  get(number: number): Entry | undefined {
    const slot = number & (this.#entries.length - 1);
    return this.#numbers[slot] === number ? this.#entries[slot] : undefined;
  }

  /** Removes and returns an entry; undefined when none has the number. */
  take(number: number): Entry | undefined {
    const entry = this.get(number);
    if (entry === undefined) return undefined;
    this.#entries[number & (this.#entries.length - 1)] = undefined;
    this.#size--;
    return entry;
  }

  /** Removes and returns all entries. */
  takeAll(): Entry[] {
    const all = this.#entries.filter((entry) => entry !== undefined);
    this.#entries.fill(undefined);
    this.#size = 0;
    return all;
  }

  /** Doubles the table. Numbers that are in different slots stay in different slots. */
  #grow(): void {
    const length = this.#entries.length * 2;
    const grown = slots<Entry>(length);
    const grownNumbers = numbers(length);
    for (const [slot, entry] of this.#entries.entries()) {
      if (entry === undefined) continue;
      const number = this.#numbers[slot] as number;
      grown[number & (length - 1)] = entry;
      grownNumbers[number & (length - 1)] = number;
    }
    this.#entries = grown;
    this.#numbers = grownNumbers;
  }
}

function slots<Entry>(count: number): (Entry | undefined)[] {
  return Array.from({ length: count }, () => undefined);
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}

/** A power of two. */
const SLOTS_MIN = 64;
const NUMBER_MAX = 0x7fff_ffff;
