// Hedges and majorities with real processes: copies that lie, hang and are slow, and what callers see of them.

import { afterEach, expect, test } from 'vitest';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf } from '../kit/mesh/metrics.ts';
import { runInside } from '../services/cli/run-inside.ts';

const meshes: TestMesh[] = [];
afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

async function start(count: number, env: Readonly<Record<string, string>>, route: object): Promise<TestMesh> {
  const deployment = { service: 'Robust', version: '1.0.0', command: fixture('robust.ts'), count, env };
  const mesh = await startTestMesh([deployment], { routes: { Robust: route } });
  meshes.push(mesh);
  await mesh.mesh.whenReady;
  return mesh;
}

async function sum({ mesh }: TestMesh, name: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const metrics = readMetrics(await (await fetch(`${mesh.addresses.stats}/metrics`)).text());
  return sumOf(metrics, name, labels);
}

test('A majority of 2 of 3 is always right, with one copy that lies and one that hangs', async () => {
  const mesh = await start(5, { ROBUST_LIES: '1', ROBUST_HANGS: '2' }, { majority: { square: '2 of 3' } });
  let number = 0;
  const client = async (): Promise<void> => {
    while (number < 120) {
      const n = ++number;
      const { result, error } = await mesh.call('Robust.square', { number: n });
      expect({ n, result, error }).toMatchObject({ n, result: n * n });
    }
  };
  await Promise.all([client(), client(), client()]);
  const metric = 'katamari_majority_calls_total';
  expect(await sum(mesh, metric, { method: 'square', result: 'undecided' })).toBe(0);
  const agreed = await sum(mesh, metric, { method: 'square', result: 'agreed' });
  const disagreed = await sum(mesh, metric, { method: 'square', result: 'disagreed' });
  expect(agreed + disagreed).toBe(number);
  expect(disagreed).toBeGreaterThan(0);
  const event = mesh.events.find(({ kind }) => kind === 'copies_disagree');
  expect(event?.subject).toBe('Robust@1.0.0.square');
  expect(event?.text).toMatch(/^outvoted: Robust@1\.0\.0\/1 of manager one: \(result\) is \d+, not \d+/);
  // No two copies of a call ran in the same process.
  const runs = mesh.ledger();
  expect(new Set(runs).size).toBe(runs.length);
});

/** Durations of calls in ms, sent at a steady rate that leaves most copies free. */
async function measure(mesh: TestMesh, calls: number): Promise<number[]> {
  const times: number[] = [];
  const running: Promise<void>[] = [];
  const startedMs = performance.now();
  for (let n = 0; n < calls; n++) {
    const waitMs = startedMs + n * EVERY_MS - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const sentMs = performance.now();
    const answered = mesh.call('Robust.square', { number: n }).then(({ result }) => {
      expect(result).toBe(n * n);
      times.push(performance.now() - sentMs);
    });
    running.push(answered);
  }
  await Promise.all(running);
  return times.sort((a, b) => a - b);
}

const EVERY_MS = 7;

test('Hedges avoid the one slow copy of ten, for at most 6 % more calls', async () => {
  const mesh = await start(10, { ROBUST_SLOW: '1' }, { weights: {} });
  const { addresses, adminToken } = mesh.mesh;
  const katamari = (...words: readonly string[]) =>
    runInside(['route', 'Robust', ...words, '--mesh', addresses.jsonRpc, '--token', adminToken], { cwd: '/' });
  const calls = 1_200;
  const without = await measure(mesh, calls);
  expect(mesh.ledger()).toHaveLength(calls);
  const { stdout } = await katamari('--hedge', 'square=p95');
  expect(stdout).toContain('Calls of square that take longer than p95 of its times get a second copy.');
  // The times of the method are not known yet.
  await measure(mesh, 100);
  const before = mesh.ledger().length;
  const hedged = await measure(mesh, calls);
  const runs = mesh.ledger().length - before;
  const slow = (times: readonly number[]): number => times.filter((ms) => ms > 150).length;
  const at = (times: readonly number[], share: number): string =>
    (times[Math.floor(times.length * share)] as number).toFixed(1);
  console.log(
    `p99 ${at(without, 0.99)} -> ${at(hedged, 0.99)} ms, p50 ${at(without, 0.5)} -> ${at(hedged, 0.5)} ms, ` +
      `slow calls ${slow(without)} -> ${slow(hedged)} of ${calls}, runs ${runs}`,
  );
  expect(slow(without)).toBeGreaterThan(calls / 100);
  expect(slow(hedged) * 5).toBeLessThanOrEqual(slow(without));
  expect(runs).toBeLessThanOrEqual(calls * 1.06);
  expect(await sum(mesh, 'katamari_hedged_calls_total', { winner: 'second' })).toBeGreaterThan(0);
});
