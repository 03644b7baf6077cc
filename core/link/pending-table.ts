// What was sent and is not answered, by number. A table of places where a number's low bits say its place, so that adding and taking are a few
// assignments; it grows to twice what was ever under way at once.
//
// No Map, for its speed and for the memory: a Map in which entries come and go takes a new table every so often, and the old one, with what it held,
// points to the new one. When the engine has once looked through all memory, the table of that moment is old memory, and keeps its
// successor and all that follow, each with its calls, until the next time: garbage collection then took a third of a busy mesh's time.

export class PendingTable<Entry> {
  #entries: (Entry | undefined)[] = places(PLACES_MIN);
  #numbers: number[] = numbers(PLACES_MIN);
  #last = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @returns its number: 1 to 2^31 - 1, the next after the last one but for those whose place is taken */
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

  /** undefined when there is none of that number. */
  get(number: number): Entry | undefined {
    const place = number & (this.#entries.length - 1);
    return this.#numbers[place] === number ? this.#entries[place] : undefined;
  }

  /** Takes an entry out; undefined when there is none of that number. */
  take(number: number): Entry | undefined {
    const entry = this.get(number);
    if (entry === undefined) return undefined;
    this.#entries[number & (this.#entries.length - 1)] = undefined;
    this.#size--;
    return entry;
  }

  /** Takes all of them out. */
  takeAll(): Entry[] {
    const all = this.#entries.filter((entry) => entry !== undefined);
    this.#entries.fill(undefined);
    this.#size = 0;
    return all;
  }

  /** Numbers with places of their own keep such when there are twice as many. */
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
