// The metrics of the mesh as plain data, read from the call statistics when a scrape asks for them; nothing here runs
// during a call. One scrape is read in one synchronous pass, so its sums agree: accepted calls = outcomes + calls in
// flight. At most SERIES_MAX entries of the statistics, and as many pools, get series of their own. The rest are
// summed under '-'.

import {
  CallStats,
  DURATION_BOUNDS_S,
  type DurationHistogram,
  RESOURCE_STATES,
  type MeshStatus,
  type PoolStatus,
} from '../../core/rpc/mod.ts';
import type { MetricSample, MetricFamily } from './metric-family.ts';
import type { StatsSources } from './sources.ts';

/** Returns all metrics. Those of other parts of the process come last. */
export function readMetrics(sources: StatsSources): MetricFamily[] {
  const status = sources.status();
  return [
    ...processFamilies(status),
    ...callFamilies(sources),
    ...poolFamilies(status.pools),
    ...poolCallFamilies(sources),
    ...(sources.extra?.() ?? []),
  ];
}

const SERIES_MAX = 500;
const OUTCOMES = ['replied', 'failed', 'refused', 'timed_out', 'cancelled'] as const;

type Labels = Readonly<Record<string, string>>;

interface Labelled {
  readonly labels: Labels;
  readonly stats: CallStats;
}

function processFamilies(status: MeshStatus): MetricFamily[] {
  const { mesh, name, version, runtime } = status;
  return [
    gauge('katamari_build_info', 'Mesh, process, version and runtime as labels; always 1.', [
      { labels: { mesh, name, version, runtime }, value: 1 },
    ]),
    gauge('katamari_ready', 'Whether this process is ready for calls (1) or not (0).', [plain(Number(status.isReady))]),
    gauge('katamari_draining', 'Whether this process is shutting down gracefully (1) or not (0).', [
      plain(Number(status.isDraining)),
    ]),
    gauge('katamari_uptime_seconds', 'Time since this process started.', [plain(status.uptimeMs / 1e3)]),
    gauge('katamari_call_timeout_seconds', 'Current global timeout of calls.', [plain(status.timeoutMs / 1e3)]),
    gauge(
      'katamari_connections',
      'Open client connections by faceplate.',
      Object.entries(status.connections).map(([faceplate, value]) => ({ labels: { faceplate }, value })),
    ),
  ];
}

function callFamilies({ callStats }: StatsSources): MetricFamily[] {
  const entries: Labelled[] = [];
  for (const { faceplate, service, method, stats } of callStats.entries()) {
    entries.push({ labels: { faceplate, service, method }, stats });
  }
  const shown = bounded(entries, { faceplate: '-', service: '-', method: '-' });
  return [
    counter(
      'katamari_calls_accepted_total',
      'Calls accepted.',
      each(shown, (stats) => stats.accepted),
    ),
    counter('katamari_calls_total', 'Calls that were settled, by outcome.', byOutcome(shown)),
    gauge(
      'katamari_calls_in_flight',
      'Calls accepted and not settled yet.',
      each(shown, (stats) => stats.inFlight),
    ),
    counter(
      'katamari_call_exceptions_total',
      'Replied calls whose reply was an exception of the service.',
      each(shown, (stats) => stats.exceptions),
    ),
    counter('katamari_call_errors_total', 'Calls that ended with an error of the mesh, by its code.', byCode(shown)),
    histogram('katamari_call_duration_seconds', 'Time from accepting a call to settling it.', shown, 'total'),
    histogram('katamari_queue_duration_seconds', 'Time a call waited for a resource.', shown, 'queue'),
  ];
}

function poolCallFamilies({ poolStats }: StatsSources): MetricFamily[] {
  // Two managers can report the same pool id, but a series must be unique.
  const byLabels = new Map<string, Labelled>();
  for (const { service, version, pool, stats } of poolStats()) {
    const key = `${service} ${version} ${pool}`;
    const known = byLabels.get(key);
    byLabels.set(key, { labels: { service, version, pool }, stats: known ? sumOf([known.stats, stats]) : stats });
  }
  const shown = bounded([...byLabels.values()], { service: '-', version: '-', pool: '-' });
  return [
    counter(
      'katamari_pool_calls_accepted_total',
      'Calls that arrived at a pool.',
      each(shown, (stats) => stats.accepted),
    ),
    counter('katamari_pool_calls_total', 'Calls that a pool settled, by outcome.', byOutcome(shown)),
    gauge(
      'katamari_pool_calls_in_flight',
      'Calls queued or in flight in a pool.',
      each(shown, (stats) => stats.inFlight),
    ),
    counter('katamari_pool_call_errors_total', 'Calls a pool settled with an error, by its code.', byCode(shown)),
    histogram(
      'katamari_pool_call_duration_seconds',
      'Time from the arrival of a call in a pool to its end.',
      shown,
      'total',
    ),
    histogram('katamari_pool_queue_duration_seconds', 'Time a call waited in the queue of its pool.', shown, 'queue'),
  ];
}

function poolFamilies(pools: readonly PoolStatus[]): MetricFamily[] {
  const versions = new SumsByLabels();
  const wanted = new SumsByLabels();
  const memory = new SumsByLabels();
  const restarts = new SumsByLabels();
  const queued = new SumsByLabels();
  const queueMax = new SumsByLabels();
  const weights = new SumsByLabels();
  const suspects = new SumsByLabels();
  for (const [i, status] of pools.entries()) {
    const isShown = i < SERIES_MAX;
    const service = isShown ? status.service : '-';
    const version = isShown ? status.version : '-';
    const pool = isShown ? status.id : '-';
    for (const state of RESOURCE_STATES) versions.add({ service, version, state }, 0);
    for (const { state, rssBytes } of status.resources) {
      versions.add({ service, version, state }, 1);
      memory.add({ service, version }, rssBytes);
    }
    wanted.add({ service, version }, status.wanted);
    for (const [reason, n] of Object.entries(status.restartsByReason)) restarts.add({ service, version, reason }, n);
    queued.add({ service, version, pool }, status.queued);
    queueMax.add({ service, version, pool }, status.queueMax);
    const refused = (status.suspects ?? []).filter(({ refusedForMs }) => refusedForMs > 0);
    suspects.add({ service, version, pool }, refused.length);
    // The weight belongs to the version. All pools of a version report the same one, so it is set, not summed.
    if (isShown) weights.set({ service, version }, status.weight);
  }
  return [
    gauge('katamari_resources', 'Resources by state; idle and busy ones are alive.', versions.samples()),
    gauge('katamari_resources_wanted', 'Resources that should be alive.', wanted.samples()),
    gauge('katamari_resource_memory_bytes', 'Resident memory of all resources of a version.', memory.samples()),
    counter('katamari_resource_restarts_total', 'Resources ended or replaced, by reason.', restarts.samples()),
    gauge('katamari_pool_queue_length', 'Calls waiting for a resource of the pool.', queued.samples()),
    gauge('katamari_pool_queue_limit', 'Limit of the queue of a pool; further calls are refused.', queueMax.samples()),
    gauge(
      'katamari_pool_suspect_calls',
      'Callers, methods and arguments that a pool refuses, because they have cost a resource its life.',
      suspects.samples(),
    ),
    gauge('katamari_pool_weight', 'Share of the calls of a service that its version gets, 0 to 1.', weights.samples()),
  ];
}

/**
 * Returns the first SERIES_MAX entries as they are and the others as one sum. The order of the entries never changes,
 * so the same entries are always summed.
 */
function bounded(entries: readonly Labelled[], rest: Labels): readonly Labelled[] {
  if (entries.length <= SERIES_MAX) return entries;
  const over = entries.slice(SERIES_MAX).map(({ stats }) => stats);
  return [...entries.slice(0, SERIES_MAX), { labels: rest, stats: sumOf(over) }];
}

function sumOf(all: readonly CallStats[]): CallStats {
  const sum = new CallStats();
  for (const stats of all) {
    for (const name of [...OUTCOMES, 'accepted', 'exceptions'] as const) sum[name] += stats[name];
    for (const code of Object.keys(stats.errors) as (keyof CallStats['errors'])[]) {
      sum.errors[code] = (sum.errors[code] ?? 0) + (stats.errors[code] ?? 0);
    }
    for (const which of ['total', 'queue'] as const) addHistogram(sum[which], stats[which]);
  }
  return sum;
}

function addHistogram(to: DurationHistogram, from: DurationHistogram): void {
  for (const [i, n] of from.counts.entries()) to.counts[i] = (to.counts[i] ?? 0) + n;
  to.sumS += from.sumS;
  to.count += from.count;
}

function each(entries: readonly Labelled[], read: (stats: CallStats) => number): MetricSample[] {
  return entries.map(({ labels, stats }) => ({ labels, value: read(stats) }));
}

/**
 * Returns samples for all five outcomes, including zeros. If a series appeared only with its first failure, `rate()`
 * would miss that failure.
 */
function byOutcome(entries: readonly Labelled[]): MetricSample[] {
  return entries.flatMap(({ labels, stats }) =>
    OUTCOMES.map((outcome) => ({ labels: { ...labels, outcome }, value: stats[outcome] })),
  );
}

function byCode(entries: readonly Labelled[]): MetricSample[] {
  return entries.flatMap(({ labels, stats }) =>
    Object.entries(stats.errors).map(([code, value]) => ({ labels: { ...labels, code }, value })),
  );
}

function histogram(name: string, help: string, entries: readonly Labelled[], which: 'total' | 'queue'): MetricFamily {
  const samples: MetricSample[] = [];
  for (const { labels, stats } of entries) {
    const { counts, sumS } = stats[which];
    let below = 0;
    for (let i = 0; i <= DURATION_BOUNDS_S.length; i++) {
      below += counts[i] ?? 0;
      const le = DURATION_BOUNDS_S[i]?.toString() ?? '+Inf';
      samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: below });
    }
    samples.push(
      { metricName: `${name}_sum`, labels, value: sumS },
      { metricName: `${name}_count`, labels, value: below },
    );
  }
  return { name, help, type: 'histogram', samples };
}

function counter(name: string, help: string, samples: readonly MetricSample[]): MetricFamily {
  return { name, help, type: 'counter', samples };
}

function gauge(name: string, help: string, samples: readonly MetricSample[]): MetricFamily {
  return { name, help, type: 'gauge', samples };
}

function plain(value: number): MetricSample {
  return { labels: {}, value };
}

/** Sums values by labels. Pools of the same service and version (other tags or manager) become one series. */
class SumsByLabels {
  readonly #samples = new Map<string, { readonly labels: Labels; value: number }>();

  add(labels: Labels, value: number): void {
    this.#at(labels).value += value;
  }

  set(labels: Labels, value: number): void {
    this.#at(labels).value = value;
  }

  samples(): MetricSample[] {
    return [...this.#samples.values()];
  }

  #at(labels: Labels): { value: number } {
    const key = JSON.stringify(labels);
    let sample = this.#samples.get(key);
    if (sample === undefined) {
      sample = { labels, value: 0 };
      this.#samples.set(key, sample);
    }
    return sample;
  }
}
