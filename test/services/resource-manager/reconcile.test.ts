// Random deployments under load: whatever changes meanwhile, at the end the manager runs exactly the last
// deployments.

import { afterEach, describe, expect, test } from 'vitest';
import { fixture, isAlive } from '../../kit/mesh/mesh.ts';
import { ManagerBench, workDeployment } from '../../kit/mesh/manager-fixture.ts';
import { Random } from '../../kit/tools/random.ts';
import type { Deployment } from '../../../services/mesh/mod.ts';
import { until } from '../../kit/tools/wait.ts';

const VERSIONS = ['1.0.0', '2.0.0', '3.0.0'];
const STEPS = 40;
const CALLERS = 6;

let bench: ManagerBench;

afterEach(async () => {
  await bench.end();
  expect(bench.alive()).toEqual([]);
});

/** A deployment that starts. */
function sound(random: Random, version: string): Deployment {
  return workDeployment({
    version,
    count: random.pick([0, 1, 1, 2, 3]),
    queueMax: random.pick([8, 64]),
    more: random.chance(0.3) ? { colour: random.pick(['red', 'blue']) } : {},
    env: random.chance(0.3) ? { WORK_NOTE: random.pick(['a', 'b']) } : {},
  });
}

/** Deployments as a file or an assignment may have them; some do not start. */
function randomDeployments(random: Random, allowBroken: boolean): Deployment[] {
  return VERSIONS.filter(() => random.chance(0.6)).map((version) => {
    const deployment = sound(random, version);
    if (!allowBroken || random.chance(0.8)) return deployment;
    return { ...deployment, command: fixture(random.pick(['dies-at-start.ts', 'never-ready.ts'])) };
  });
}

/** These errors certify that a call never ran and may be sent elsewhere. */
const REFUSALS = /^(draining|no_pool|overloaded): /;

async function run(seed: number, kills: boolean): Promise<void> {
  const random = new Random(seed);
  bench = new ManagerBench();
  const { manager } = bench;
  const ends: unknown[] = [];
  let isOver = false;
  const caller = async (which: number): Promise<void> => {
    const own = new Random(seed + which);
    while (!isOver) {
      const end = await bench.ask('take', { ms: own.below(20) }, { version: own.pick(VERSIONS) });
      ends.push(end);
      // A refused caller pauses before its next call.
      if (typeof end === 'string') await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  // So that there is something to lose.
  const first = VERSIONS.map((version) => ({ ...sound(random, version), count: 1 }));
  manager.setDeployments('file', first);
  await bench.untilServing(Object.fromEntries(VERSIONS.map((version) => [`Work@${version}`, 1])), 60_000);
  const callers = Array.from({ length: CALLERS }, (_, which) => caller(which + 1));
  await until('the first calls to be answered', () => ends.some((end) => typeof end === 'number'));
  let killed = 0;
  for (let step = 0; step < STEPS; step++) {
    const what = random.next();
    if (what < 0.45) manager.setDeployments('order', randomDeployments(random, true));
    else if (what < 0.75) manager.setDeployments('file', randomDeployments(random, true));
    else if (what < 0.85) manager.setDrained(random.chance(0.3));
    else if (what < 0.9) manager.roll('Work', '').catch(() => undefined);
    else if (kills) {
      const victim = random.pick([...manager.pids()].filter(isAlive));
      if (victim !== undefined) {
        process.kill(victim, 'SIGKILL');
        killed++;
      }
    }
    // Pauses are part of the input: from none to longer than a start takes.
    const pauseMs = random.pick([0, 0, 10, 100, 300, 1_200]);
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  const [file, ordered] = [randomDeployments(random, false), randomDeployments(random, false)];
  manager.setDeployments('order', ordered);
  manager.setDrained(false);
  manager.setDeployments('file', file);
  const last = new Map([...ordered, ...file].map((one) => [one.version, one]));
  const wanted = [...last.values()].filter(({ count }) => count > 0);
  await bench.untilServing(Object.fromEntries(wanted.map(({ version, count }) => [`Work@${version}`, count])), 60_000);
  isOver = true;
  await Promise.all(callers);

  await until('the ends of the others to be known', () => manager.pids().length === bench.alive().length);
  expect([...manager.pids()].sort()).toEqual(bench.alive().sort());
  const offered = manager.offers().map(({ details, alive }) => [details.version, details.more, alive]);
  expect(offered.sort()).toEqual(wanted.map(({ version, more, count }) => [version, more, count]).sort());
  for (const { version, queueMax } of wanted)
    expect(manager.status(() => 0).find((pool) => pool.version === version)?.queueMax).toBe(queueMax);
  const ran = ends.filter((end) => typeof end === 'number').length;
  const lost = ends.filter((end) => typeof end === 'string' && !REFUSALS.test(end));
  expect(ran).toBeGreaterThan(0);
  if (kills) {
    expect(lost.filter((end) => !String(end).startsWith('resource_failed'))).toEqual([]);
    expect(lost.length).toBeLessThanOrEqual(killed);
  } else expect(lost).toEqual([]);
  // An answered call ran once, a refused one never.
  expect(bench.ledger().length).toBeGreaterThanOrEqual(ran);
  expect(bench.ledger().length).toBeLessThanOrEqual(ran + lost.length);
}

describe('ResourceManager under load', () => {
  for (const kills of [false, true]) {
    test(`runs exactly the last deployments and loses no call${kills ? ' except those in a killed chassis' : ''}`, async () => {
      const seed = Number(process.env['RECONCILE_SEED'] ?? Date.now() % 1_000_000);
      console.log(`seed ${seed}: RECONCILE_SEED=${seed}`);
      await run(seed, kills);
    }, 180_000);
  }
});
