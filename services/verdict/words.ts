// The verdict on one metric in words, such as `2.0.0 fails more often: 3.1 % against 1.2 % (difference 1.3 to 2.5
// points, 95 %)`. Numbers have as many digits as the interval supports.

import type { VersionComparison } from './comparison.ts';
import type { RequiredCalls } from './required-calls.ts';

/** The versions and what the second one does if its value is higher or lower. */
export interface VerdictWording {
  readonly first: string;
  readonly second: string;
  /** Such as `fails more often`. */
  readonly higher: string;
  readonly lower: string;
}

export function describeRates(
  comparison: VersionComparison,
  wording: VerdictWording,
  alpha: number,
  required: RequiredCalls | undefined,
): string {
  const empty = describeMissing(comparison, wording, 'calls');
  if (empty !== undefined) return empty;
  if (!comparison.isDifferent) {
    return describeNone(required, 'calls', `${shorten((required?.difference ?? 0) * 100)} points`);
  }
  const [low, high] = distances(comparison, 0).map((rate) => rate * 100) as [number, number];
  const digits = digitsFor(low, high);
  const [first, second] = [comparison.first * 100, comparison.second * 100];
  const values = `${fixed(second, digits)} % against ${fixed(first, digits)} %`;
  return (
    `${describeDirection(comparison, wording)}: ${values} ` +
    `(difference ${fixed(low, digits)} to ${fixed(high, digits)} points, ${confidence(alpha)})`
  );
}

export function describeMeans(
  comparison: VersionComparison,
  wording: VerdictWording,
  alpha: number,
  required: RequiredCalls | undefined,
): string {
  const empty = describeMissing(comparison, wording, 'values');
  if (empty !== undefined) return empty;
  if (!comparison.isDifferent) return describeNone(required, 'values', shorten(required?.difference ?? 0));
  const [low, high] = distances(comparison, 0);
  const digits = digitsFor(low, high);
  return (
    `${describeDirection(comparison, wording)}: ` +
    `${fixed(comparison.second, digits)} against ${fixed(comparison.first, digits)} ` +
    `(difference ${fixed(low, digits)} to ${fixed(high, digits)}, ${confidence(alpha)})`
  );
}

/** The estimates are in milliseconds. */
export function describeQuantiles(
  comparison: VersionComparison,
  wording: VerdictWording,
  alpha: number,
  required: RequiredCalls | undefined,
): string {
  const empty = describeMissing(comparison, wording, 'calls');
  if (empty !== undefined) return empty;
  if (!comparison.isDifferent)
    return describeNone(required, 'calls', `${shorten((required?.difference ?? 0) * 100)} %`);
  const { low, high } = comparison;
  const digits = digitsFor(...distances(comparison, 1));
  const ratio =
    high === Number.POSITIVE_INFINITY
      ? `at least ${fixed(low, digits)} times`
      : low === 0
        ? `at most ${fixed(high, digits)} times`
        : `${fixed(low, digits)} to ${fixed(high, digits)} times`;
  return (
    `${describeDirection(comparison, wording)}: ${duration(comparison.second)} against ` +
    `${duration(comparison.first)} (${ratio}, ${confidence(alpha)})`
  );
}

function describeDirection({ low, first, second }: VersionComparison, wording: VerdictWording): string {
  return `${wording.second} ${second > first || (second === first && low > 0) ? wording.higher : wording.lower}`;
}

function describeMissing(comparison: VersionComparison, wording: VerdictWording, units: string): string | undefined {
  const missing = (['first', 'second'] as const).filter((version) => Number.isNaN(comparison[version]));
  return missing.length === 0 ? undefined : `no ${units} of ${missing.map((name) => wording[name]).join(' and ')} yet`;
}

function describeNone(required: RequiredCalls | undefined, units: string, size: string): string {
  if (required === undefined) return 'no difference to be seen yet';
  return `no difference to be seen yet; ${roundUp(required.more).toLocaleString('en-US')} more ${units} would show one of ${size}`;
}

/** The ends of the interval as distances from equality, the nearer one first. */
function distances({ low, high }: VersionComparison, equal: number): [number, number] {
  const [one, other] = [Math.abs(low - equal), Math.abs(high - equal)];
  return one < other ? [one, other] : [other, one];
}

/** Returns the decimals that show two digits of the width, and that the nearer end is not 0. */
function digitsFor(near: number, far: number): number {
  const width = Number.isFinite(far) && far > near ? far - near : near;
  const ofWidth = 1 - Math.floor(Math.log10(width));
  const ofEnd = -Math.floor(Math.log10(near));
  return Math.min(DIGITS_MAX, Math.max(0, ofWidth, ofEnd));
}

function fixed(value: number, digits: number): string {
  // Adding 0 turns -0 into 0.
  const rounded = Number(value.toFixed(digits)) + 0;
  return rounded.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function shorten(size: number): string {
  return size.toLocaleString('en-US', { maximumSignificantDigits: 2, maximumFractionDigits: DIGITS_MAX });
}

/** Three digits: the buckets are exact to 1 %. */
function duration(ms: number): string {
  const [value, unit] = ms < 1 ? [ms * 1_000, 'µs'] : ms < 10_000 ? [ms, 'ms'] : [ms / 1_000, 's'];
  return `${value.toLocaleString('en-US', { maximumSignificantDigits: 3 })} ${unit}`;
}

/** Rounds up to two digits. */
function roundUp(calls: number): number {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, calls))) - 1);
  return Math.ceil(calls / step) * step;
}

function confidence(alpha: number): string {
  return `${shorten(100 * (1 - alpha))} %`;
}

const DIGITS_MAX = 8;
