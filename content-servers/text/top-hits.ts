// Keeps the best hits of many, in memory for twice as many as are asked for.

import type { HitOrder, RankedHit } from './order.ts';

export class TopHits {
  readonly #count: number;
  readonly #order: HitOrder;
  readonly #after: RankedHit | undefined;
  #hits: RankedHit[] = [];
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
    if (this.#count === 0 || (this.#worst !== undefined && this.#order(hit, this.#worst) > 0)) return;
    this.#hits.push(hit);
    if (this.#hits.length >= 2 * this.#count + SPARE) this.#cut();
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
    this.#cut();
    return this.#hits;
  }

  /** Whether there are hits behind the best ones. */
  hasMore(): boolean {
    return this.#behind > this.#count;
  }

  #cut(): void {
    this.#hits.sort(this.#order);
    if (this.#hits.length < this.#count) return;
    this.#hits.length = this.#count;
    this.#worst = this.#hits.at(-1);
  }
}

const SPARE = 64;
