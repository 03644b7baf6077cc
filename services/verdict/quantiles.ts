// Compares a quantile of the durations of two versions: an interval of the ratio that holds at any time. At its own
// quantile, each version has a fixed rate of values up to there: for p99 that is 99 %. So a ratio is refuted if, for
// every duration x, the pair of rates (q, q) is refuted by the counts up to x in the first version and up to x times
// the ratio in the second (contrast.ts). The quantile of one version is bounded likewise, as by Howard and Ramdas:
// "Sequential estimation of quantiles with applications to A/B testing and best-arm identification" (2022). Nothing is
// assumed of the distribution. All of alpha is spent on the ratio; the interval of each version has an alpha of its
// own.
//
// The counts within a bucket are interpolated. The true quantile of a version has the counted values at some place of
// its bucket, so the ratio is widened by one bucket for each version: a ratio within 2.2 % of 1 is never different.

import { BUCKETS_PER_OCTAVE, DURATION_BUCKETS, LogHistogram } from '../../core/rpc/mod.ts';
import { bisect, bisection, type VersionComparison } from './comparison.ts';
import type { Slices } from './slices.ts';
import { type EvidenceOptions, type HitCount, levelEvidence, PairTest, shareOf } from './contrast.ts';

/** Bounds in milliseconds. The upper one is Infinity while too few values are above the quantile. */
export interface QuantileBounds {
  readonly lowMs: number;
  readonly highMs: number;
}

/** Compares quantile `q` (0..1). Estimates are in milliseconds; the interval is of second / first. */
export function* compareQuantiles(
  first: LogHistogram,
  second: LogHistogram,
  q: number,
  options: EvidenceOptions,
): Slices<VersionComparison> {
  const estimates = { first: first.quantileMs(q), second: second.quantileMs(q) };
  if (first.count === 0 || second.count === 0) {
    return { ...estimates, low: 0, high: Number.POSITIVE_INFINITY, isDifferent: false };
  }
  const ratio = new RatioTest(CumulativeCounts.of(first), CumulativeCounts.of(second), q, options);
  const { likely, isDifferent, isRefuted } = ratio;
  function* endOf(side: -1 | 1): Slices<number> {
    const isTowardsEqual = isDifferent && side !== Math.sign(likely);
    if (isTowardsEqual) return (yield* bisection(likely, -side * WIDENING, isRefuted)) + side * WIDENING;
    return isRefuted(side * SHIFT_MAX)
      ? (yield* bisection(likely, side * SHIFT_MAX, isRefuted)) + side * WIDENING
      : side * Number.POSITIVE_INFINITY;
  }
  const [low, high] = [ratioOf(yield* endOf(-1)), ratioOf(yield* endOf(1))];
  if (isDifferent) return { ...estimates, low, high, isDifferent };
  return { ...estimates, low: Math.min(1, low), high: Math.max(1, high), isDifferent };
}

/** Like `compareQuantiles().isDifferent`, at a small part of its cost. */
export function quantilesDiffer(
  first: LogHistogram,
  second: LogHistogram,
  q: number,
  options: EvidenceOptions,
): boolean {
  if (first.count === 0 || second.count === 0) return false;
  return new RatioTest(CumulativeCounts.of(first), CumulativeCounts.of(second), q, options).isDifferent;
}

/** Returns bounds of quantile `q` (0..1) of one version. They hold at any time with probability 1 - alpha. */
export function quantileBounds(histogram: LogHistogram, q: number, alpha: number): QuantileBounds {
  if (histogram.count === 0) return { lowMs: 0, highMs: Number.POSITIVE_INFINITY };
  const counts = CumulativeCounts.of(histogram);
  const isRefuted = (position: number): boolean =>
    levelEvidence({ calls: counts.total, hits: counts.upTo(position) }, q) >= -Math.log(alpha);
  const kept = counts.edges.filter((edge) => !isRefuted(edge));
  const [least, most] = [counts.edges[0] as number, counts.edges.at(-1) as number];
  const estimate = counts.positionOf(q);
  const [low, high] = [Math.min(estimate, ...kept), Math.max(estimate, ...kept)];
  return {
    // The true quantile is in the bucket of a place that is not refuted. Beyond the values, all or none are counted.
    lowMs: low <= least && !isRefuted(least) ? 0 : LogHistogram.boundMs(low - 1),
    highMs: high >= most && !isRefuted(most) ? Number.POSITIVE_INFINITY : LogHistogram.boundMs(high + 1),
  };
}

/** Tests ratios of a quantile. A ratio is a shift by a number of buckets, which need not be whole. */
export class RatioTest {
  readonly #first: CumulativeCounts;
  readonly #second: CumulativeCounts;
  readonly #pair: PairTest;
  readonly #likeliest: readonly [first: HitCount, second: HitCount];
  /** Shift between the estimates. */
  readonly likely: number;

  constructor(first: CumulativeCounts, second: CumulativeCounts, q: number, options: EvidenceOptions) {
    this.#first = first;
    this.#second = second;
    const share = options.share ?? shareOf(first.total, second.total);
    this.#pair = new PairTest(q, q, { alpha: options.alpha, share });
    this.likely = second.positionOf(q) - first.positionOf(q);
    const atQuantile = ({ total }: CumulativeCounts): HitCount => ({ calls: total, hits: q * total });
    this.#likeliest = [atQuantile(first), atQuantile(second)];
  }

  /** Whether the interval excludes equal quantiles, with its widening. */
  get isDifferent(): boolean {
    return Math.abs(this.likely) > WIDENING && this.isRefuted(Math.sign(this.likely) * WIDENING);
  }

  readonly isRefuted = (shift: number): boolean => {
    const path = this.#path(shift);
    // Where both versions together have the quantile is nearly always the last place that is refuted.
    if (!this.#isRefutedAt(path, this.#likeliest[0].hits + this.#likeliest[1].hits)) return false;
    const { least, most } = this.#jointRange();
    for (let step = 0; step <= STEPS; step++) {
      if (!this.#isRefutedAt(path, least + ((most - least) * step) / STEPS)) return false;
    }
    return true;
  };

  /** Returns a range of joint hits. Outside of it, the levels of one version refute the pair. */
  #jointRange(): { readonly least: number; readonly most: number } {
    const [first, second] = this.#likeliest;
    const ofFirst = (hits: number): boolean => this.#pair.isRefutedByLevels({ ...first, hits }, second);
    const ofSecond = (hits: number): boolean => this.#pair.isRefutedByLevels(first, { ...second, hits });
    return {
      least: farthest(first.hits, 0, ofFirst) + farthest(second.hits, 0, ofSecond),
      most: farthest(first.hits, first.calls, ofFirst) + farthest(second.hits, second.calls, ofSecond),
    };
  }

  /** Returns the counts of both versions at each place where one of them starts or ends to grow. */
  #path(shift: number): readonly (readonly [first: number, second: number])[] {
    const edges = mergeEdges(this.#first.edges, this.#second.edges, shift);
    return edges.map((edge) => [this.#first.upTo(edge), this.#second.upTo(edge + shift)] as const);
  }

  #isRefutedAt(path: readonly (readonly [number, number])[], joint: number): boolean {
    let [low, high] = [0, path.length - 1];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const [first, second] = path[middle] as readonly [number, number];
      if (first + second >= joint) high = middle;
      else low = middle + 1;
    }
    const [first, second] = path[low] as readonly [number, number];
    const [firstBefore, secondBefore] = path[Math.max(0, low - 1)] as readonly [number, number];
    const grown = first + second - firstBefore - secondBefore;
    const missing = grown === 0 ? 0 : Math.max(0, first + second - joint) / grown;
    return this.#pair.isRefutedBy(
      { calls: this.#first.total, hits: first - missing * (first - firstBefore) },
      { calls: this.#second.total, hits: second - missing * (second - secondBefore) },
    );
  }
}

/** Returns the place towards `end` from which a condition holds, or `end`. */
function farthest(from: number, end: number, holds: (at: number) => boolean): number {
  return holds(end) ? bisect(from, end, holds) : end;
}

/** Counts of values up to any position, which is counted in buckets. */
export class CumulativeCounts {
  /** Positions where the count starts or ends to grow, upwards. */
  readonly edges: readonly number[];
  readonly #sums: readonly number[];
  readonly total: number;

  private constructor(edges: readonly number[], sums: readonly number[]) {
    this.edges = edges;
    this.#sums = sums;
    this.total = sums.at(-1) ?? 0;
  }

  static of(histogram: LogHistogram): CumulativeCounts {
    const edges: number[] = [];
    const sums: number[] = [];
    let sum = 0;
    for (const [bucket, count] of histogram.buckets()) {
      if (edges.at(-1) !== bucket - 1) {
        edges.push(bucket - 1);
        sums.push(sum);
      }
      sum += count;
      edges.push(bucket);
      sums.push(sum);
    }
    return new CumulativeCounts(edges, sums);
  }

  /** Returns the counts of `calls` calls with the same distribution, but durations longer by a number of buckets. */
  like(calls: number, shift: number): CumulativeCounts {
    const [edges, sums] = [this.edges, this.#sums];
    return new CumulativeCounts(
      edges.map((edge) => edge + shift),
      sums.map((sum) => (sum * calls) / this.total),
    );
  }

  upTo(position: number): number {
    const above = firstAbove(this.edges, position);
    const sum = this.#sums[above - 1] ?? 0;
    if (above === 0 || above === this.edges.length) return sum;
    const [from, to] = [this.edges[above - 1] as number, this.edges[above] as number];
    return sum + ((this.#sums[above] as number) - sum) * ((position - from) / (to - from));
  }

  positionOf(q: number): number {
    const wanted = q * this.total;
    const above = Math.max(
      1,
      this.#sums.findIndex((sum) => sum >= wanted),
    );
    const [from, to] = [this.#sums[above - 1] as number, this.#sums[above] as number];
    const start = this.edges[above - 1] as number;
    return start + ((this.edges[above] as number) - start) * ((wanted - from) / (to - from));
  }
}

/** Returns the edges of the first version and those of the second, moved back by the shift; ascending. */
function mergeEdges(first: readonly number[], second: readonly number[], shift: number): number[] {
  const merged: number[] = [];
  for (let a = 0, b = 0; a < first.length || b < second.length;) {
    const [left, right] = [first[a] ?? Number.POSITIVE_INFINITY, (second[b] ?? Number.POSITIVE_INFINITY) - shift];
    merged.push(Math.min(left, right));
    if (left <= right) a++;
    if (right <= left) b++;
  }
  return merged;
}

function firstAbove(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((sorted[middle] as number) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Returns the number of buckets that a ratio of durations is worth. */
export function shiftOf(ratio: number): number {
  return Math.log2(ratio) * BUCKETS_PER_OCTAVE;
}

function ratioOf(shift: number): number {
  return 2 ** (shift / BUCKETS_PER_OCTAVE);
}

/** Places that are tried for a shift: at least 8 for each standard error of the joint hits. */
const STEPS = 150;
/** One bucket for each version. */
const WIDENING = 2;
/** A shift by more than all buckets. */
const SHIFT_MAX = DURATION_BUCKETS;
