// How the calls of a service are split over versions by weight. Calls without a key are spread so evenly that in any
// run of calls each version gets its share to within one call. Calls with a key keep their version: when weights
// change, keys move only to versions that gain, or away from those that lose.

/** Versions with a weight above 0, and the calls that each has got. */
export class VersionSplit {
  readonly versions: readonly string[];
  readonly weights: readonly number[];
  /** The weights, scaled so that the products of two numbers are exact. */
  readonly #parts: readonly number[];
  readonly #sum: number;
  /** Of each version, calls that it has got in this round of `#sum` calls. */
  readonly #counts: number[];
  /** Calls of this round. */
  #calls = 0;
  readonly #salt: string;
  /** Of each version, two 32-bit numbers that differ from those of any other version or salt. */
  #seeds: readonly (readonly [number, number])[] | undefined;

  /**
   * @param weights whole numbers above 0, one for each version
   * @param salt splits with different salts give equal keys to versions independently
   * @param phase where in the pattern of versions to begin, 0..1: splits that begin at the same place would give their
   * first calls to the same version
   */
  constructor(versions: readonly string[], weights: readonly number[], salt: string, phase: number) {
    this.versions = versions;
    this.weights = weights;
    this.#salt = salt;
    const scale = Math.max(1, sumOf(weights) / SUM_MAX);
    this.#parts = weights.map((weight) => Math.max(1, Math.round(weight / scale)));
    this.#sum = sumOf(this.#parts);
    this.#counts = weights.map(() => 0);
    for (let left = Math.floor(phase * Math.min(this.#sum, PHASES_MAX)); left > 0; left--) this.next();
  }

  /**
   * Chooses the version of the next call without a key. Call number i of a version with share s belongs between calls
   * i/s and (i+1)/s of all. Of the versions whose time has begun, that whose time ends first gets the call. This is
   * earliest deadline first on one processor, which misses no deadline when the shares sum up to 1.
   */
  next(): string {
    let best = -1;
    let bestEnd = Number.POSITIVE_INFINITY;
    for (let at = 0; at < this.versions.length; at++) {
      const part = this.#parts[at] as number;
      const count = this.#counts[at] as number;
      if (Math.floor((count * this.#sum) / part) > this.#calls) continue;
      const end = Math.ceil(((count + 1) * this.#sum) / part);
      if (end >= bestEnd) continue;
      best = at;
      bestEnd = end;
    }
    this.#counts[best] = (this.#counts[best] as number) + 1;
    // Each version has had as many calls as its weight is. Numbers stay small.
    if (++this.#calls === this.#sum) {
      this.#calls = 0;
      this.#counts.fill(0);
    }
    return this.versions[best] as string;
  }

  /**
   * Returns the version of a key, by weighted rendezvous: each version draws a number from the key, and the lowest
   * wins. A version with twice the weight draws numbers half as high.
   */
  of(key: string): string {
    this.#seeds ??= this.versions.map((version) => hash(`${this.#salt}\n${version}`));
    const [high, low] = hash(key);
    let best = 0;
    let lowest = Number.POSITIVE_INFINITY;
    for (const [at, [seedHigh, seedLow]] of this.#seeds.entries()) {
      const drawn = -Math.log(pointBetween(high ^ seedHigh, low ^ seedLow)) / (this.weights[at] as number);
      if (drawn >= lowest) continue;
      lowest = drawn;
      best = at;
    }
    return this.versions[best] as string;
  }
}

/** The splits of a service: calls with other tags or roles, or of other callers, may have other versions. */
export class VersionSplits {
  /** The last used first. */
  readonly #splits: VersionSplit[] = [];
  readonly #salt: string;
  readonly #random: () => number;

  /** @param random returns the phase of a new split, 0..1 */
  constructor(salt: string, random: () => number) {
    this.#salt = salt;
    this.#random = random;
  }

  get salt(): string {
    return this.#salt;
  }

  /** Returns the split over these versions, as it was left at its last call. */
  get(versions: readonly string[], weights: readonly number[]): VersionSplit {
    const at = this.#splits.findIndex((split) => isSame(split.versions, versions) && isSame(split.weights, weights));
    if (at === 0) return this.#splits[0] as VersionSplit;
    const [split = new VersionSplit(versions, weights, this.#salt, this.#random())] =
      at > 0 ? this.#splits.splice(at, 1) : [];
    this.#splits.unshift(split);
    if (this.#splits.length > SPLITS_MAX) this.#splits.pop();
    return split;
  }
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0);
}

function isSame<T>(some: readonly T[], others: readonly T[]): boolean {
  return some.length === others.length && some.every((one, at) => one === others[at]);
}

/** Where a key falls between 0 and 1. Equal keys fall differently for each salt. */
export function pointOf(salt: string, key: string): number {
  const [[seedHigh, seedLow], [high, low]] = [hash(salt), hash(key)];
  return pointBetween(high ^ seedHigh, low ^ seedLow);
}

/** A number between 0 and 1, never 0 or 1, from 64 bits. */
function pointBetween(high: number, low: number): number {
  return ((mix(high) >>> 5) * 2 ** 26 + (mix(low) >>> 6) + 0.5) / 2 ** 53;
}

/** 64 bits of a text: two hashes like FNV-1a, with different factors. */
function hash(text: string): [number, number] {
  let [high, low] = [0x811c9dc5, 0x5bd1e995];
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x85ebca6b);
  }
  return [mix(high), mix(low)];
}

/** The final shuffle of MurmurHash3: each bit of the input changes half of the bits. */
function mix(bits: number): number {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

const SPLITS_MAX = 8;
const SUM_MAX = 2 ** 26;
/** Most calls that a new split is ahead of the begin of its pattern. */
const PHASES_MAX = 1_000;
