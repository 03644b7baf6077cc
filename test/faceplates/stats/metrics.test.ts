// The metrics of the stats faceplate, checked with promtool.

import { afterEach, describe, expect, test } from 'vitest';
import { promtool } from '../../kit/tools/promtool.ts';
import { RESOURCE_STATES } from '../../../core/rpc/mod.ts';
import type { StatsFaceplate } from '../../../faceplates/stats/faceplate.ts';
import { FakeMesh, madePool } from './fake-mesh.ts';

let faceplate: StatsFaceplate | undefined;

afterEach(async () => {
  await faceplate?.close();
  faceplate = undefined;
});

async function scrape(mesh: FakeMesh): Promise<string> {
  faceplate ??= await mesh.serve();
  const response = await fetch(`http://127.0.0.1:${faceplate.port}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4');
  return response.text();
}

/** Values by series as written in the text. */
function seriesOf(metrics: string): Map<string, number> {
  const lines = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}

/** Calls of every kind, two pools of one version, a name that needs escaping, every state, and restarts. */
function busyMesh(): FakeMesh {
  const mesh = new FakeMesh();
  const calls = mesh.callStats.of('thrift', 'Calculator', 'add');
  for (const result of [
    'ok',
    'ok',
    'no_pool',
    'overloaded',
    'timeout',
    'resource_failed',
    'cancelled',
    'internal',
  ] as const) {
    calls.accept();
    calls.settle(result, 12, 300);
  }
  calls.accept();
  mesh.callStats.of('json-rpc', 'Odd"Name\\with\nbreaks', 'add').accept();
  mesh.pools = [
    madePool('Calculator', '1.0.0', RESOURCE_STATES, {
      queued: 3,
      restartsByReason: { crashed: 2, hung: 1 },
      weight: 0.25,
    }),
    madePool('Calculator', '1.0.0', ['idle'], {
      id: 'Calculator@1.0.0#2',
      tags: ['gpu'],
      restartsByReason: { crashed: 1 },
      weight: 0.25,
    }),
    madePool('Calculator', '2.0.0', ['busy'], { weight: 0.75 }),
  ];
  for (const pool of mesh.pools) {
    mesh.statsOf(pool).accept();
    mesh.statsOf(pool).settle('ok', 4, 2_000_000);
  }
  return mesh;
}

describe('GET /metrics', () => {
  test('passes promtool without a warning for a busy mesh', async () => {
    const mesh = busyMesh();
    mesh.families.push({
      name: 'katamari_consul_watch_age_seconds',
      help: 'Time since a watch last heard from Consul.',
      type: 'gauge',
      samples: [{ labels: { watch: 'routes' }, value: 1.5 }],
    });
    expect(await promtool(await scrape(mesh))).toEqual({ code: 0, said: '' });
  });

  test('passes promtool for a mesh without pools and calls', async () => {
    expect(await promtool(await scrape(new FakeMesh()))).toEqual({ code: 0, said: '' });
  });

  test('would fail promtool with a metric that breaks the conventions', async () => {
    const mesh = busyMesh();
    mesh.families.push({
      name: 'katamari_bad_total',
      help: 'Bad.',
      type: 'gauge',
      samples: [{ labels: {}, value: 1 }],
    });
    const { code, said } = await promtool(await scrape(mesh));
    expect(code).not.toBe(0);
    expect(said).toContain('katamari_bad_total');
  });

  test('has series in which accepted calls equal settled calls plus those in flight', async () => {
    const series = seriesOf(await scrape(busyMesh()));
    const labels = 'faceplate="thrift",service="Calculator",method="add"';
    const settled = ['replied', 'failed', 'refused', 'timed_out', 'cancelled'].map(
      (outcome) => series.get(`katamari_calls_total{${labels},outcome="${outcome}"}`) as number,
    );
    expect(settled).toEqual([2, 2, 2, 1, 1]);
    expect(series.get(`katamari_calls_accepted_total{${labels}}`)).toBe(9);
    expect(series.get(`katamari_calls_in_flight{${labels}}`)).toBe(1);
    expect(series.get(`katamari_call_errors_total{${labels},code="overloaded"}`)).toBe(1);
  });

  test('has cumulative histogram buckets that end in the count', async () => {
    const series = seriesOf(await scrape(busyMesh()));
    const labels = 'faceplate="thrift",service="Calculator",method="add"';
    const bucket = (le: string): number | undefined =>
      series.get(`katamari_call_duration_seconds_bucket{${labels},le="${le}"}`);
    expect(bucket('0.01')).toBe(0);
    expect(bucket('0.025')).toBe(8);
    expect(bucket('+Inf')).toBe(8);
    expect(series.get(`katamari_call_duration_seconds_count{${labels}}`)).toBe(8);
    expect(series.get(`katamari_call_duration_seconds_sum{${labels}}`)).toBeCloseTo(0.096);
    const pool = 'service="Calculator",version="2.0.0",pool="Calculator@2.0.0"';
    expect(series.get(`katamari_pool_queue_duration_seconds_bucket{${pool},le="1"}`)).toBe(0);
    expect(series.get(`katamari_pool_queue_duration_seconds_bucket{${pool},le="2.5"}`)).toBe(1);
  });

  test('sums resources and restarts over the pools of a version, and has queues for each pool', async () => {
    const series = seriesOf(await scrape(busyMesh()));
    const version = 'service="Calculator",version="1.0.0"';
    expect(series.get(`katamari_resources{${version},state="idle"}`)).toBe(2);
    expect(series.get(`katamari_resources{${version},state="failed"}`)).toBe(1);
    expect(series.get(`katamari_resource_restarts_total{${version},reason="crashed"}`)).toBe(3);
    expect(series.get(`katamari_pool_weight{${version}}`)).toBe(0.25);
    expect(series.get(`katamari_pool_queue_length{${version},pool="Calculator@1.0.0"}`)).toBe(3);
    expect(series.get(`katamari_pool_queue_limit{${version},pool="Calculator@1.0.0#2"}`)).toBe(64);
  });

  test('has memory, CPU time and event loop lag of the process', async () => {
    const series = seriesOf(await scrape(new FakeMesh()));
    expect(series.get('process_resident_memory_bytes')).toBeGreaterThan(1_000_000);
    expect(series.get('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(series.has('nodejs_eventloop_lag_p99_seconds')).toBe(true);
    expect(series.get('katamari_connections{faceplate="thrift"}')).toBe(3);
    expect([...series.keys()].find((name) => name.startsWith('katamari_build_info{'))).toContain(
      'runtime="node 20.19.0"',
    );
  });

  test('limits the number of series for ten thousand methods, and loses no call in the sums', async () => {
    const mesh = new FakeMesh();
    for (let i = 0; i < 10_000; i++) {
      const stats = mesh.callStats.of('thrift', `Service${i % 100}`, `method${i}`);
      stats.accept();
      stats.settle(i % 2 === 0 ? 'ok' : 'timeout', 1, 1);
    }
    const metrics = await scrape(mesh);
    const series = [...seriesOf(metrics)];
    expect(series.length).toBeLessThan(30_000);
    const accepted = series.filter(([name]) => name.startsWith('katamari_calls_accepted_total{'));
    expect(accepted.reduce((sum, [, value]) => sum + value, 0)).toBe(10_000);
    expect(
      seriesOf(metrics).get('katamari_calls_total{faceplate="-",service="-",method="-",outcome="timed_out"}'),
    ).toBe(4_750);
  });

  test('reads the counters again for each scrape', async () => {
    const mesh = busyMesh();
    const name = 'katamari_calls_accepted_total{faceplate="thrift",service="Calculator",method="add"}';
    expect(seriesOf(await scrape(mesh)).get(name)).toBe(9);
    mesh.callStats.of('thrift', 'Calculator', 'add').accept();
    expect(seriesOf(await scrape(mesh)).get(name)).toBe(10);
  });

  test('fails with the name when two families have the same name', async () => {
    const mesh = new FakeMesh();
    mesh.families.push({ name: 'katamari_ready', help: 'Again.', type: 'gauge', samples: [] });
    faceplate = await mesh.serve();
    const response = await fetch(`http://127.0.0.1:${faceplate.port}/metrics`);
    expect(response.status).toBe(500);
    expect(await response.text()).toContain('katamari_ready');
  });
});
