// How many more calls would show a difference of a given size. A size counts as shown if the comparison finds it in
// about 80 % of experiments: the tests themselves are asked about counts that are 0.84 standard errors short of it. For
// quantiles it is a rough figure, since the few values near a quantile say how dense the values are there.

import { LogHistogram } from '../../core/rpc/mod.ts';
import type { VersionComparison } from './comparison.ts';
import { type EvidenceOptions, type HitCount, shareOf } from './contrast.ts';
import { meanReach, type ValueSums, varianceOf } from './means.ts';
import { CumulativeCounts, RatioTest, shiftOf } from './quantiles.ts';
import { ratesDiffer } from './rates.ts';
import type { Slices } from './slices.ts';

/** A difference that is not shown yet, and the calls of both versions that would show it. */
export interface RequiredCalls {
  /** Points / 100 for rates, the unit of the values for means, ratio - 1 for quantiles. */
  readonly difference: number;
  readonly more: number;
}

/** For rates. Chooses a difference of about a third of the present interval, as a round number. */
export function* callsForRates(
  first: HitCount,
  second: HitCount,
  { low, high }: VersionComparison,
  options: EvidenceOptions,
): Slices<RequiredCalls | undefined> {
  if (first.calls === 0 || second.calls === 0) return undefined;
  const calls = first.calls + second.calls;
  const share = options.share ?? shareOf(first.calls, second.calls);
  const rate = (first.hits + second.hits) / calls;
  const difference = roundSize((high - low) / 3);
  const lower = Math.min(1 - difference, Math.max(0, rate - difference * share));
  const total = yield* leastCalls((n) => {
    const [one, other] = shortOf(lower, lower + difference, n, share);
    return one.hits / one.calls < other.hits / other.calls && ratesDiffer(one, other, { ...options, share });
  });
  return requiredFor(difference, total, calls);
}

/** For the mean of values. */
export function* callsForMeans(
  first: ValueSums,
  second: ValueSums,
  { low, high }: VersionComparison,
  alpha: number,
): Slices<RequiredCalls | undefined> {
  if (!Number.isFinite(high - low) || high === low) return undefined;
  const count = first.count + second.count;
  const difference = roundSize((high - low) / 3);
  const [ofFirst, ofSecond] = [varianceOf(first), varianceOf(second)];
  const total = yield* leastCalls((n) => {
    const counts = [(n * first.count) / count, (n * second.count) / count] as const;
    const error = Math.sqrt(ofFirst / counts[0] + ofSecond / counts[1]);
    return meanReach(counts[0], counts[1], error, alpha) + SHORT_BY * error <= difference;
  });
  return requiredFor(difference, total, count);
}

/** For quantile `q`, as if the durations of the second version were those of both, all longer by a factor. */
export function* callsForQuantiles(
  first: LogHistogram,
  second: LogHistogram,
  q: number,
  { low, high }: VersionComparison,
  options: EvidenceOptions,
): Slices<RequiredCalls | undefined> {
  if (first.count === 0 || second.count === 0) return undefined;
  const calls = first.count + second.count;
  const share = options.share ?? shareOf(first.count, second.count);
  const isBounded = low > 0 && Number.isFinite(high);
  const difference = isBounded ? Math.max(RATIO_STEP_MIN, roundSize((high / low - 1) / 3)) : RATIO_STEP_UNBOUNDED;
  const both = new LogHistogram();
  both.add(first);
  both.add(second);
  const counts = CumulativeCounts.of(both);
  const shift = shiftOf(1 + difference);
  const at = counts.positionOf(q);
  // Difference of the rates of values up to the quantile. One standard error of it is worth a part of the shift.
  const apart = (counts.upTo(at + shift / 2) - counts.upTo(at - shift / 2)) / calls;
  const total = yield* leastCalls((n) => {
    const error = Math.sqrt((q * (1 - q)) / (n * share * (1 - share)));
    const second = counts.like(n * share, shift * (1 - (SHORT_BY * error) / apart));
    const ratio = new RatioTest(counts.like(n * (1 - share), 0), second, q, { ...options, share });
    return ratio.likely > 0 && ratio.isDifferent;
  });
  return requiredFor(difference, total, calls);
}

function requiredFor(difference: number, total: number | undefined, calls: number): RequiredCalls | undefined {
  return total === undefined ? undefined : { difference, more: Math.max(0, total - calls) };
}

/** Returns counts of n calls with these rates, nearer to one another by 0.84 standard errors of their difference. */
function shortOf(lower: number, higher: number, n: number, shareOfHigher: number): [HitCount, HitCount] {
  const [lowCalls, highCalls] = [n * (1 - shareOfHigher), n * shareOfHigher];
  const ofLow = (lower * (1 - lower)) / lowCalls;
  const ofHigh = (higher * (1 - higher)) / highCalls;
  const error = Math.sqrt(ofLow + ofHigh);
  const step = error === 0 ? 0 : SHORT_BY / error;
  return [
    { calls: lowCalls, hits: lowCalls * Math.min(1, lower + step * ofLow) },
    { calls: highCalls, hits: highCalls * Math.max(0, higher - step * ofHigh) },
  ];
}

/** Returns the least number of calls that is enough, with two digits; undefined beyond a trillion. */
function* leastCalls(isEnough: (calls: number) => boolean): Slices<number | undefined> {
  let [few, many] = [0, 64];
  while (!isEnough(many)) {
    [few, many] = [many, many * 2];
    if (many > CALLS_MAX) return undefined;
    yield;
  }
  for (let i = 0; i < 7; i++) {
    const middle = (few + many) / 2;
    if (isEnough(middle)) many = middle;
    else few = middle;
    yield;
  }
  return Math.ceil(many);
}

/** Rounds down to 1, 2, 3 or 5 times a power of ten. */
function roundSize(size: number): number {
  const power = 10 ** Math.floor(Math.log10(size));
  // Division keeps sizes such as 0.05 free of binary noise.
  const digit = [5, 3, 2].find((one) => size / power >= one) ?? 1;
  return power >= 1 ? digit * power : digit / Math.round(1 / power);
}

const SHORT_BY = 0.84;
const CALLS_MAX = 2 ** 40;
/** Smaller changes of a quantile disappear in the width of the buckets. */
const RATIO_STEP_MIN = 0.05;
/** While an interval has no end, 1.5 times is asked for. */
const RATIO_STEP_UNBOUNDED = 0.5;
