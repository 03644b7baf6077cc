// Compares the rates of two versions, such as errors per call: an interval of the difference that holds at any time.
// The interval has all differences that the counts do not refute: a difference is refuted if every common rate with it
// is (contrast.ts). All of alpha is spent on this one interval, in both directions, over all looks together.

import { type EvidenceOptions, type HitCount, PairTest, shareOf } from './contrast.ts';
import { bisect, bisection, type VersionComparison, NO_ESTIMATE } from './comparison.ts';
import type { Slices } from './slices.ts';

/** Returns the rates and the interval of second - first. Without calls, the interval is -1 to 1. */
export function* compareRates(first: HitCount, second: HitCount, options: EvidenceOptions): Slices<VersionComparison> {
  const [firstRate, secondRate] = [rateOf(first), rateOf(second)];
  const comparison = { first: firstRate, second: secondRate };
  if (first.calls === 0 || second.calls === 0) return { ...comparison, low: -1, high: 1, isDifferent: false };
  const isRefuted = refuter(first, second, options);
  const difference = secondRate - firstRate;
  const isDifferent = isRefuted(0);
  // If 0 is refuted, it bounds the interval on its side; else it is in the interval.
  if (isDifferent) {
    const towardsZero = yield* bisection(difference, 0, isRefuted);
    const away = Math.sign(difference);
    const other = isRefuted(away) ? yield* bisection(difference, away, isRefuted) : away;
    return { ...comparison, low: Math.min(towardsZero, other), high: Math.max(towardsZero, other), isDifferent };
  }
  const low = isRefuted(-1) ? Math.min(0, yield* bisection(difference, -1, isRefuted)) : -1;
  const high = isRefuted(1) ? Math.max(0, yield* bisection(difference, 1, isRefuted)) : 1;
  return { ...comparison, low, high, isDifferent };
}

/** Like `compareRates().isDifferent`, at a small part of its cost. */
export function ratesDiffer(first: HitCount, second: HitCount, options: EvidenceOptions): boolean {
  return first.calls > 0 && second.calls > 0 && refuter(first, second, options)(0);
}

/** Returns a function that says whether the counts refute a difference. */
function refuter(first: HitCount, second: HitCount, options: EvidenceOptions): (difference: number) => boolean {
  const complete = { alpha: options.alpha, share: options.share ?? shareOf(first.calls, second.calls) };
  return (difference) => {
    const test = (rate: number): PairTest => new PairTest(rate, Math.min(1, Math.max(0, rate + difference)), complete);
    const [least, most] = [Math.max(0, -difference), Math.min(1, 1 - difference)];
    const likely = likeliestRate(first, second, difference);
    // The likeliest common rate is nearly always the last one that is refuted.
    if (!test(likely).isRefutedBy(first, second)) return false;
    const isOut = (rate: number): boolean => test(rate).isRefutedByLevels(first, second);
    for (const end of [least, most]) {
      const bound = isOut(end) ? bisect(likely, end, isOut) : end;
      for (let step = 1; step <= STEPS; step++) {
        if (!test(likely + ((bound - likely) * step) / STEPS).isRefutedBy(first, second)) return false;
      }
    }
    return true;
  };
}

/** Returns the rate of the first version that makes the counts likeliest if the difference is the given one. */
function likeliestRate(first: HitCount, second: HitCount, difference: number): number {
  if (difference === 0) return (first.hits + second.hits) / (first.calls + second.calls);
  const [least, most] = [Math.max(0, -difference), Math.min(1, 1 - difference)];
  // The slope of the log likelihood falls from one end to the other.
  const isFalling = (rate: number): boolean => slope(first, rate) + slope(second, rate + difference) < 0;
  let [low, high] = [least, most];
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (isFalling(middle)) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
}

function slope({ calls, hits }: HitCount, rate: number): number {
  const misses = calls - hits;
  return (hits > 0 ? hits / rate : 0) - (misses > 0 ? misses / (1 - rate) : 0);
}

function rateOf({ calls, hits }: HitCount): number {
  return calls === 0 ? NO_ESTIMATE : hits / calls;
}

/** Common rates that are tried on each side of the likeliest one. The evidence changes slowly between them. */
const STEPS = 8;
const BISECTIONS = 50;
