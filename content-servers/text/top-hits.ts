// Keeps the best hits of many in a heap with the worst of them on top, so that a hit that is not among the best costs
// one comparison.

import type { HitOrder, RankedHit } from './order.ts';

export class TopHits {
  readonly #count: number;
  readonly #order: HitOrder;
  readonly #after: RankedHit | undefined;
  /** A binary heap: no hit is better than one below it. */
  readonly #heap: RankedHit[] = [];
  /** The last one of the best; undefined while there are fewer than asked for. */
  #worst: RankedHit | undefined;
  /** Hits behind `after`, kept or not. */
  #behind = 0;

  /** @param after hits up to this one were in earlier answers */
  constructor(count: number, order: HitOrder, after: RankedHit | undefined) {
    this.#count = count;
    this.#order = order;
    this.#after = after;
  }

  add(hit: RankedHit): void {
    if (this.#after !== undefined && this.#order(hit, this.#after) <= 0) return;
    this.#behind++;
    if (this.#count === 0) return;
    if (this.#worst === undefined) this.#rise(hit);
    else if (this.#order(hit, this.#worst) < 0) this.#replaceWorst(hit);
    if (this.#heap.length === this.#count) this.#worst = this.#heap[0];
  }

  /**
   * Whether a hit with this score is not among the best, when hits are in order of their scores; then it is counted.
   * Saves the object for most of them.
   */
  isTooLow(score: number): boolean {
    if (this.#worst === undefined || score >= this.#worst.score) return false;
    this.#behind++;
    return true;
  }

  /** The best hits in order. */
  best(): readonly RankedHit[] {
    return [...this.#heap].sort(this.#order);
  }

  /** Whether there are hits behind the best ones. */
  hasMore(): boolean {
    return this.#behind > this.#count;
  }

  /** Adds a hit at the end and moves it up to its place. */
  #rise(hit: RankedHit): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(hit);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as RankedHit;
      if (this.#order(hit, parent) <= 0) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = hit;
  }

  /** Puts a hit in place of the worst one and moves it down to its place. */
  #replaceWorst(hit: RankedHit): void {
    const heap = this.#heap;
    let at = 0;
    for (let below = 1; below < heap.length; below = 2 * at + 1) {
      const right = below + 1;
      if (right < heap.length && this.#order(heap[right] as RankedHit, heap[below] as RankedHit) > 0) below = right;
      const worse = heap[below] as RankedHit;
      if (this.#order(hit, worse) >= 0) break;
      heap[at] = worse;
      at = below;
    }
    heap[at] = hit;
  }
}
