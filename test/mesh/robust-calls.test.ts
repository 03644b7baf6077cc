// Hedges and majorities with real processes: copies that lie, hang and are slow, and what callers see of them.

import { afterEach, expect, test } from 'vitest';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf } from '../kit/mesh/metrics.ts';
import { until } from '../kit/tools/wait.ts';
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
  await until('all copies', () => mesh.pool('Robust@1.0.0').alive === count);
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

interface Measured {
  /** Durations in ms, ascending. */
  readonly times: readonly number[];
  /** Calls that the slow copy has answered: a busy machine makes others slow too. */
  readonly slow: number;
}

/** Sends calls at a rate that leaves most copies free; ten at a time, so that the slow copy gets one when it can. */
async function measure(mesh: TestMesh, calls: number): Promise<Measured> {
  const times: number[] = [];
  let slow = 0;
  let underWay = 0;
  const call = async (): Promise<void> => {
    underWay++;
    const sentMs = performance.now();
    const { result, error } = await mesh.call('Robust.who');
    underWay--;
    expect(error).toBeUndefined();
    times.push(performance.now() - sentMs);
    if (result === SLOW) slow++;
  };
  const running: Promise<void>[] = [];
  const startedMs = performance.now();
  for (let n = 0; n < calls; n += 10) {
    const waitMs = startedMs + n * EVERY_MS - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    // A busy machine must not make calls wait for each other.
    await until('the calls before', () => underWay <= 3);
    running.push(...Array.from({ length: 10 }, call));
  }
  await Promise.all(running);
  return { times: times.sort((a, b) => a - b), slow };
}

const SLOW = '1';
const EVERY_MS = 7;
/** For a busy machine. */
const BUSY_MS = 180_000;

test(
  'Hedges avoid the one slow copy of ten, for at most 6 % more calls',
  async () => {
    const mesh = await start(10, { ROBUST_SLOW: SLOW }, { weights: {} });
    const { addresses, adminToken } = mesh.mesh;
    const calls = 1_200;
    const without = await measure(mesh, calls);
    const words = ['route', 'Robust', '--hedge', 'who=p95', '--mesh', addresses.jsonRpc, '--token', adminToken];
    const { stdout } = await runInside(words, { cwd: '/' });
    expect(stdout).toContain('Calls of who that take longer than p95 of its times get a second copy.');
    // Until the times of the method are known.
    await measure(mesh, 100);
    const before = mesh.ledger().length;
    const hedged = await measure(mesh, calls);
    const runs = mesh.ledger().length - before;
    const at = ({ times }: Measured, share: number): string =>
      (times[Math.floor(times.length * share)] ?? 0).toFixed(1);
    console.log(
      `p99 ${at(without, 0.99)} -> ${at(hedged, 0.99)} ms, p50 ${at(without, 0.5)} -> ${at(hedged, 0.5)} ms, ` +
        `calls of the slow copy ${without.slow} -> ${hedged.slow} of ${calls}, runs ${runs}`,
    );
    // With hedges the slow copy sets the p99 no more.
    expect(without.slow).toBeGreaterThan(calls / 100);
    expect(hedged.slow).toBeLessThan(calls / 100);
    expect(runs).toBeLessThanOrEqual(calls * 1.06);
    expect(await sum(mesh, 'katamari_hedged_calls_total', { winner: 'second' })).toBeGreaterThan(0);
  },
  BUSY_MS,
);
