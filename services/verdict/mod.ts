// Exports of services/verdict; other modules import only from here.

export type { VersionComparison } from './comparison.ts';
export type { EvidenceOptions, HitCount } from './contrast.ts';
export { exceedsLimit } from './limits.ts';
export { compareMeans, type ValueSums } from './means.ts';
export { compareQuantiles, quantileBounds, type QuantileBounds, quantilesDiffer } from './quantiles.ts';
export { compareRates, ratesDiffer } from './rates.ts';
export type { RequiredCalls } from './required-calls.ts';
export { atOnce, inSlices, type Slices } from './slices.ts';
export { judgeMeans, judgeQuantiles, judgeRates, type MetricVerdict } from './verdict.ts';
export type { VerdictWording } from './words.ts';
