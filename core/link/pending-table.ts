// Calls without a reply, by number. A table of slots that the low bits of a number select, so adding and removing are
// a few assignments. It grows to twice the largest number of calls in flight.
//
// Not a Map, for speed and for memory. A Map in which entries come and go allocates a new table every so often, and
// the old table, with its entries, points to the new one. After a full garbage collection the table of that moment is
// in the old generation. It keeps its successor and all that follow alive, each with its calls, until the next full
// collection: garbage collection then took a third of a busy mesh's time.

export class PendingTable<Entry> {
  #entries: (Entry | undefined)[] = places(PLACES_MIN);
  #numbers: number[] = numbers(PLACES_MIN);
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
    const place = number & (this.#entries.length - 1);
    return this.#numbers[place] === number ? this.#entries[place] : undefined;
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

  /** Numbers with different slots have different slots in a table of twice the size. */
  #grow(): void {
    const length = this.#entries.length * 2;
    const grown = places<Entry>(length);
    const grownNumbers = numbers(length);
    for (const [place, entry] of this.#entries.entries()) {
      if (entry === undefined) continue;
      const number = this.#numbers[place] as number;
      grown[number & (length - 1)] = entry;
      grownNumbers[number & (length - 1)] = number;
    }
    this.#entries = grown;
    this.#numbers = grownNumbers;
  }
}

function places<Entry>(count: number): (Entry | undefined)[] {
  return Array.from({ length: count }, () => undefined);
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}

/** A power of two. */
const PLACES_MIN = 64;
const NUMBER_MAX = 0x7fff_ffff;
