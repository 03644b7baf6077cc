// Metrics as plain data, before they are formatted as Prometheus text.

export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Name of the series if it differs from the family's: `..._bucket`, `..._sum`, `..._count` of a histogram. */
  readonly metricName?: string;
}

/**
 * One metric with its samples. Names and units follow the Prometheus conventions: counters end in `_total`; units are
 * seconds and bytes.
 */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly MetricSample[];
}
