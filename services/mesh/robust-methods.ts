// What is known of the methods whose calls have several copies: their times, the budget of their hedges, and counts for
// the metrics.

import { HedgeBudget, MethodLatencies, type Clock } from '../../core/mod.ts';
import { LRUCache } from 'lru-cache';

/** Copies of the calls of one method of one version. */
export interface RobustCount {
  readonly service: string;
  readonly version: string;
  readonly method: string;
  /** Calls with a second copy, by the copy that answered first; `none` if neither did. */
  readonly hedges: { first: number; second: number; none: number };
  /**
   * Calls to several copies: `agreed`, `disagreed` if some gave another answer, `undecided` without a majority,
   * `too_few` if too few copies were up.
   */
  readonly majorities: { agreed: number; disagreed: number; undecided: number; too_few: number };
}

export interface RobustMethod extends RobustCount {
  readonly latencies: MethodLatencies;
  readonly budget: HedgeBudget;
  /** When the last disagreement was reported, and how many were since. */
  reportedAtMs: number;
  unreported: number;
}

export class RobustMethods {
  readonly #clock: Clock;
  /** Versions come and go. */
  readonly #methods = new LRUCache<string, RobustMethod>({ max: METHODS_MAX });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  of(service: string, version: string, method: string): RobustMethod {
    const key = `${service}@${version}.${method}`;
    let found = this.#methods.get(key);
    if (found !== undefined) return found;
    found = {
      service,
      version,
      method,
      hedges: { first: 0, second: 0, none: 0 },
      majorities: { agreed: 0, disagreed: 0, undecided: 0, too_few: 0 },
      latencies: new MethodLatencies(),
      budget: new HedgeBudget(this.#clock, 0),
      reportedAtMs: Number.NEGATIVE_INFINITY,
      unreported: 0,
    };
    this.#methods.set(key, found);
    return found;
  }

  read(): readonly RobustCount[] {
    return [...this.#methods.values()];
  }
}

const METHODS_MAX = 1_000;
