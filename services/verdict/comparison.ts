// The result of comparing one metric of two versions, and the search for the ends of its interval.

import { atOnce, type Slices } from './slices.ts';

/** Two versions compared by one metric. */
export interface VersionComparison {
  /** Estimate for the first version; NaN without calls. */
  readonly first: number;
  /** Estimate for the second version; NaN without calls. */
  readonly second: number;
  /** Lower end of the interval of the difference, second - first; for quantiles of the ratio, second / first. */
  readonly low: number;
  readonly high: number;
  /** Whether the interval excludes equality. */
  readonly isDifferent: boolean;
}

export const NO_ESTIMATE: number = Number.NaN;

/**
 * Returns the place where a condition starts to hold between `inside`, where it does not, and `outside`, where it does.
 * Returns the outer end of the last step, so an interval is never too short. Steps first grow from `inside`, so the
 * precision is relative to the distance.
 */
export function bisect(inside: number, outside: number, holds: (at: number) => boolean): number {
  return atOnce(bisection(inside, outside, holds));
}

/** The same in slices of one question each. */
export function* bisection(inside: number, outside: number, holds: (at: number) => boolean): Slices<number> {
  const reach = outside - inside;
  let far = 1;
  while (far > FRACTION_MIN && holds(inside + (reach * far) / 4)) {
    far /= 4;
    yield;
  }
  let near = far > FRACTION_MIN ? far / 4 : 0;
  // The outer end itself is no answer: it may be equality, which is refuted.
  for (let i = 0; i < HALVINGS || (far === 1 && i < HALVINGS_MAX); i++) {
    const middle = (near + far) / 2;
    if (holds(inside + reach * middle)) far = middle;
    else near = middle;
    yield;
  }
  return far === 1 ? outside : inside + reach * far;
}

const FRACTION_MIN = 1e-12;
const HALVINGS = 8;
const HALVINGS_MAX = 40;
