// Parses /metrics: the Prometheus text format, as far as our own pages use it.

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Samples by metric name. */
export type Metrics = ReadonlyMap<string, readonly Sample[]>;

/** @throws Error for a line that is not a sample */
export function readMetrics(text: string): Metrics {
  const metrics = new Map<string, Sample[]>();
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, name = '', inBraces = '', value = ''] = SAMPLE.exec(line) ?? [];
    if (name === '') throw new Error(`Cannot read the metric "${line}"`);
    const labels = Object.fromEntries(
      [...inBraces.matchAll(LABEL)].map(([, label = '', quoted = '']) => [label, unescaped(quoted)]),
    );
    const samples = metrics.get(name);
    const sample = { labels, value: numberOf(value) };
    if (samples === undefined) metrics.set(name, [sample]);
    else samples.push(sample);
  }
  return metrics;
}

/** The sum of the samples that have these labels; 0 when there are none. */
export function sumOf(metrics: Metrics, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels);
  return (metrics.get(name) ?? [])
    .filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

function numberOf(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  return text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text);
}

function unescaped(quoted: string): string {
  return quoted.replaceAll(/\\(.)/g, (_all, next: string) => (next === 'n' ? '\n' : next));
}

/** Name, labels, value; a timestamp may follow. */
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
