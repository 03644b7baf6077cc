// The verdict on one metric of two versions: the numbers, and the sentence that people read.
//
// Each function spends its alpha on one metric of one comparison: the probability that it is ever wrong, in either
// direction, over all looks together. Several metrics are several chances of a false alarm. To keep all of them
// together below 5 %, pass 0.05 divided by the number of metrics.

import type { LogHistogram } from '../../core/rpc/mod.ts';
import type { VersionComparison } from './comparison.ts';
import type { EvidenceOptions, HitCount } from './contrast.ts';
import { compareMeans, type ValueSums } from './means.ts';
import { compareQuantiles } from './quantiles.ts';
import { compareRates } from './rates.ts';
import { callsForMeans, callsForQuantiles, callsForRates, type RequiredCalls } from './required-calls.ts';
import type { Slices } from './slices.ts';
import { describeMeans, describeQuantiles, describeRates, type VerdictWording } from './words.ts';

/** The verdict on one metric. */
export interface MetricVerdict {
  readonly comparison: VersionComparison;
  /** What it takes to see more; absent if a difference is seen, or if there is nothing yet to estimate it from. */
  readonly required?: RequiredCalls;
  readonly text: string;
}

/** Judges hits per call, such as errors. */
export function* judgeRates(
  first: HitCount,
  second: HitCount,
  wording: VerdictWording,
  options: EvidenceOptions,
): Slices<MetricVerdict> {
  const comparison = yield* compareRates(first, second, options);
  const required = comparison.isDifferent ? undefined : yield* callsForRates(first, second, comparison, options);
  return verdictOf(comparison, required, describeRates(comparison, wording, options.alpha, required));
}

/** Judges the mean of values. */
export function* judgeMeans(
  first: ValueSums,
  second: ValueSums,
  wording: VerdictWording,
  options: EvidenceOptions,
): Slices<MetricVerdict> {
  const comparison = compareMeans(first, second, options.alpha);
  const required = comparison.isDifferent ? undefined : yield* callsForMeans(first, second, comparison, options.alpha);
  return verdictOf(comparison, required, describeMeans(comparison, wording, options.alpha, required));
}

/** Judges quantile `q` (0..1) of durations. */
export function* judgeQuantiles(
  first: LogHistogram,
  second: LogHistogram,
  q: number,
  wording: VerdictWording,
  options: EvidenceOptions,
): Slices<MetricVerdict> {
  const comparison = yield* compareQuantiles(first, second, q, options);
  const required = comparison.isDifferent ? undefined : yield* callsForQuantiles(first, second, q, comparison, options);
  return verdictOf(comparison, required, describeQuantiles(comparison, wording, options.alpha, required));
}

function verdictOf(comparison: VersionComparison, required: RequiredCalls | undefined, text: string): MetricVerdict {
  return required === undefined ? { comparison, text } : { comparison, required, text };
}
