// Writes metrics in the Prometheus text format with prom-client. Katamari's own metrics arrive as plain data and are
// put into a registry for one scrape. The metrics of the process (memory, CPU, event loop) come from prom-client's
// collectors.

import { Registry, collectDefaultMetrics, type Metric } from 'prom-client';
import type { MetricFamily } from './metric-family.ts';

export const METRICS_CONTENT_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Returns the text of one scrape.
 * @throws Error when two families have the same name.
 */
export async function writeMetrics(families: Iterable<MetricFamily>): Promise<string> {
  const registry = new Registry();
  const process = processRegistry();
  for (const metric of process.getMetricsAsArray()) registry.registerMetric(metric as unknown as Metric);
  for (const family of families) registry.registerMetric(asMetric(family));
  return registry.metrics();
}

/** Wraps a family as a metric of prom-client's registry. */
function asMetric({ name, help, type, samples }: MetricFamily): Metric {
  const get = (): Promise<object> => Promise.resolve({ name, help, type, values: samples, aggregator: 'sum' });
  // The registry only uses `name` and `get()`. prom-client's own classes need an update per event instead.
  return { name, get } as unknown as Metric;
}

/**
 * Returns prom-client's default collectors, created once per process. Their garbage collection observer cannot be
 * stopped, so a second faceplate in the process must not start another.
 */
function processRegistry(): Registry {
  if (shared === undefined) {
    shared = new Registry();
    collectDefaultMetrics({ register: shared, eventLoopMonitoringPrecision: LAG_SAMPLED_EVERY_MS });
    // These gauges are named like counters, which promtool rejects. The same values exist under names without
    // `_total`.
    for (const { name } of shared.getMetricsAsArray() as unknown as { name: string }[]) {
      if (/^nodejs_active_.*_total$/.test(name)) shared.removeSingleMetric(name);
    }
  }
  return shared;
}

let shared: Registry | undefined;
/**
 * Each sample of the event loop wakes the process: every 10 ms, prom-client's default, costs 1 % of a core at rest. A
 * stall that is shorter than the interval is seen only sometimes.
 */
const LAG_SAMPLED_EVERY_MS = 200;
