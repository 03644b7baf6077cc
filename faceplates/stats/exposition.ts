// Metrics as the text that Prometheus reads, written by prom-client. Our own families come as plain data and live in
// a registry
import type { MetricFamily } from './metric-family.ts';

// for one scrape; the figures of the process itself (memory, CPU, event loop) come from prom-client's collectors.

import { Registry, collectDefaultMetrics, type Metric } from 'prom-client';
export const METRICS_CONTENT_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * The text of one scrape.
 * @throws Error when two families have the same name.
 */
export async function writeMetrics(families: Iterable<MetricFamily>): Promise<string> {
  const registry = new Registry();
  const process = processRegistry();
  for (const metric of process.getMetricsAsArray()) registry.registerMetric(metric as unknown as Metric);
  for (const family of families) registry.registerMetric(asMetric(family));
  return registry.metrics();
}

/** A family in the shape the registry reads when it writes. */
function asMetric({ name, help, type, samples }: MetricFamily): Metric {
  const get = (): Promise<object> => Promise.resolve({ name, help, type, values: samples, aggregator: 'sum' });
  // prom-client's classes hold values that are counted call by call; the registry itself only asks for name and get().
  return { name, get } as unknown as Metric;
}

/**
 * prom-client's own collectors, one set a process: their observer of garbage collections cannot be stopped, so a second
 * faceplate in the same process must not start a second one.
 */
function processRegistry(): Registry {
  if (shared === undefined) {
    shared = new Registry();
    collectDefaultMetrics({ register: shared });
    // Gauges named as if they were counters, which promtool rightly refuses. The same figures stand under names
    // without it.
    for (const { name } of shared.getMetricsAsArray() as unknown as { name: string }[]) {
      if (/^nodejs_active_.*_total$/.test(name)) shared.removeSingleMetric(name);
    }
  }
  return shared;
}

let shared: Registry | undefined;
