// A histogram of durations for comparing quantiles: buckets on a logarithmic scale, each 1.1 % wide, with plain counts.
// Histograms of many processes can be added, and an earlier snapshot can be subtracted. One with all octaves in use
// takes 20 KB; usually it is 3 to 5 KB, since an octave without values has no memory. DurationHistogram has the few
// buckets that Prometheus is given.

/** Buckets in each doubling of the duration. The upper bound of a bucket is the lower bound times 2^(1/64). */
export const BUCKETS_PER_OCTAVE = 64;
const OCTAVES = 36;
export const DURATION_BUCKETS: number = OCTAVES * BUCKETS_PER_OCTAVE;

/** Histogram of durations in milliseconds, from 1 µs to 19 hours. Durations outside count at the ends. */
export class LogHistogram {
  readonly #octaves: (Float64Array | undefined)[] = Array.from({ length: OCTAVES }, () => undefined);
  #count = 0;

  /** Reads the form that `toSparse()` writes. Throws a RangeError if it is not that. */
  static fromSparse(sparse: readonly number[]): LogHistogram {
    const histogram = new LogHistogram();
    let bucket = -1;
    for (let at = 0; at < sparse.length; at += 2) {
      const [step, count] = [sparse[at] as number, sparse[at + 1]];
      bucket += step;
      if (!isCount(step) || !isCount(count) || bucket >= DURATION_BUCKETS) {
        throw new RangeError(
          `Cannot read a histogram: at ${at} are ${step} and ${count}; expected a step that leads to a bucket below ` +
            `${DURATION_BUCKETS} and a count, both whole and above 0`,
        );
      }
      histogram.#add(bucket, count);
    }
    return histogram;
  }

  /** Returns the upper bound of a bucket in milliseconds. The position may lie within a bucket. */
  static boundMs(position: number): number {
    return LEAST_MS * 2 ** (position / BUCKETS_PER_OCTAVE);
  }

  /** Number of values. */
  get count(): number {
    return this.#count;
  }

  record(ms: number): void {
    this.#add(bucketOf(ms), 1);
  }

  /** Adds the values of another histogram to this one. */
  add(other: LogHistogram): void {
    for (const [bucket, count] of other.buckets()) this.#add(bucket, count);
  }

  /**
   * Returns the values that came after an earlier snapshot of the same source. If a bucket has lost values, the source
   * has started anew: then returns all values. So subtract per source, and add the results.
   */
  since(earlier: LogHistogram): LogHistogram {
    const later = new LogHistogram();
    for (const [bucket, count] of this.buckets()) later.#add(bucket, count);
    for (const [bucket, count] of earlier.buckets()) {
      if (count > later.#at(bucket)) return LogHistogram.fromSparse(this.toSparse());
      later.#add(bucket, -count);
    }
    return later;
  }

  /** Returns the buckets that have values, upwards: the number of the bucket, from 0, and its count. */
  *buckets(): Generator<readonly [bucket: number, count: number], void> {
    for (const [octave, counts] of this.#octaves.entries()) {
      if (counts === undefined) continue;
      for (const [within, count] of counts.entries()) {
        if (count > 0) yield [octave * BUCKETS_PER_OCTAVE + within, count];
      }
    }
  }

  /** Returns quantile `q` (0..1) in milliseconds, interpolated within its bucket; NaN without values. */
  quantileMs(q: number): number {
    let below = 0;
    for (const [bucket, count] of this.buckets()) {
      if (below + count >= q * this.#count) return LogHistogram.boundMs(bucket - 1 + (q * this.#count - below) / count);
      below += count;
    }
    return Number.NaN;
  }

  /** Returns pairs for JSON: the step from the bucket before, the first from -1, and the count of the bucket. */
  toSparse(): number[] {
    const sparse: number[] = [];
    let last = -1;
    for (const [bucket, count] of this.buckets()) {
      sparse.push(bucket - last, count);
      last = bucket;
    }
    return sparse;
  }

  #at(bucket: number): number {
    return this.#octaves[Math.floor(bucket / BUCKETS_PER_OCTAVE)]?.[bucket % BUCKETS_PER_OCTAVE] ?? 0;
  }

  #add(bucket: number, count: number): void {
    const octave = Math.floor(bucket / BUCKETS_PER_OCTAVE);
    const counts = (this.#octaves[octave] ??= new Float64Array(BUCKETS_PER_OCTAVE));
    const within = bucket % BUCKETS_PER_OCTAVE;
    counts[within] = (counts[within] as number) + count;
    this.#count += count;
  }
}

/** Bucket 0 has the values up to 1 µs. Bucket n has those above the bound of n - 1, up to its own. */
function bucketOf(ms: number): number {
  if (!(ms > LEAST_MS)) return 0;
  return Math.min(DURATION_BUCKETS - 1, Math.ceil(Math.log2(ms / LEAST_MS) * BUCKETS_PER_OCTAVE));
}

function isCount(n: number | undefined): n is number {
  return n !== undefined && Number.isSafeInteger(n) && n > 0;
}

const LEAST_MS = 0.001;
