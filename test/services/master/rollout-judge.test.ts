// What the guards of a rollout say about counts, and simulated rollouts of good and of bad versions.

import { describe, expect, test } from 'vitest';
import { LogHistogram } from '../../../core/rpc/mod.ts';
import {
  judgeRollout,
  violationText,
  ROLLOUT_ALPHA,
  type RolloutVerdict,
} from '../../../services/master/rollout-judge.ts';
import { parseGuard, type ObservedVersions, type Rollout, type VersionCount } from '../../../services/mesh/mod.ts';
import { atOnce } from '../../../services/verdict/mod.ts';
import { Random } from '../../kit/tools/random.ts';
import { drawHits, logNormal, ValueTable } from '../verdict/draws.ts';
import { aRollout } from './a-rollout.ts';

const SEED = Number(process.env['KATAMARI_SEED'] ?? Math.floor(Math.random() * 2 ** 32));

function aCount(version: string, given: Partial<VersionCount> = {}): VersionCount {
  const key = { serviceName: 'Search', version, method: 'find', splitIndex: 3, sinceMs: 0 };
  const none = { calls: 0, exceptions: 0, failures: 0, timeouts: 0, refusals: 0, cancelled: 0 };
  return { ...key, ...none, durations: new LogHistogram(), queueing: new LogHistogram(), ...given };
}

function observe(counts: readonly VersionCount[], differ?: { equal: number; different: number }): ObservedVersions {
  const ofMirror =
    differ === undefined
      ? []
      : [{ serviceName: 'Search', version: '2.0.0', method: 'find', failed: 0, skipped: 0, ...differ }];
  return { counts, outcomes: [], mirrors: { counts: ofMirror, paths: [], differences: [], missing: [] }, missing: [] };
}

function holding(share: number, ...guards: readonly string[]): Rollout {
  return aRollout({ phase: 'holding', share, splitIndex: 3, guards: guards.map(parseGuard) });
}

function judgeNow(rollout: Rollout, observed: ObservedVersions): RolloutVerdict {
  return atOnce(judgeRollout(rollout, observed));
}

describe('A guard on errors', () => {
  const rollout = holding(25, 'errors +0.5pt');
  const judge = (first: Partial<VersionCount>, second: Partial<VersionCount>): RolloutVerdict =>
    judgeNow(rollout, observe([aCount('1.9.0', first), aCount('2.0.0', second)]));

  test('counts failures, timeouts, refusals and exceptions, but not calls whose caller has gone', () => {
    const verdict = judge(
      { calls: 900 },
      { calls: 310, exceptions: 3, failures: 3, timeouts: 3, refusals: 3, cancelled: 10 },
    );
    expect(verdict).toMatchObject({ calls: 310, badCalls: 12 });
    expect(violationText(verdict)).toMatch(/^errors \+0\.5pt: 2\.0\.0 fails more often: 4\.\d* % against 0\.\d* % \(/);
  });

  test('is not violated by ten calls, nor by a version that fails as often', () => {
    const few = judge({ calls: 30 }, { calls: 10, failures: 1 });
    expect(few.guards[0]?.text).toBe('10 % against 0 % in 10 calls of 2.0.0, no difference to be seen');
    const same = judge({ calls: 9_000, failures: 270 }, { calls: 3_000, failures: 93 });
    expect([violationText(few), violationText(same)]).toEqual([undefined, undefined]);
  });

  test('allows what it is told to allow, though the difference is seen', () => {
    const verdict = judge({ calls: 90_000 }, { calls: 30_000, failures: 90 });
    expect(verdict.guards[0]).toMatchObject({
      isViolated: false,
      text: '0.3 % against 0 % in 30,000 calls of 2.0.0, worse, but allowed',
    });
  });

  test('says when a version has no calls', () => {
    expect(judge({ calls: 10 }, {}).guards[0]?.text).toBe('no calls of 2.0.0 to compare');
    expect(judge({}, {}).guards[0]?.text).toBe('no calls of 1.9.0 and 2.0.0 to compare');
  });

  test('takes counts of this split only', () => {
    const other = aCount('2.0.0', { calls: 1_000, failures: 1_000, splitIndex: 2 });
    expect(judgeNow(rollout, observe([other]))).toMatchObject({ calls: 0, badCalls: 0 });
  });
});

test('A guard on latency is violated by a p99 of twice the time, not by the same', () => {
  const random = new Random(7);
  const rollout = holding(50, 'p99 x1.3', 'queue p99 x1.3');
  const filled = (median: number): LogHistogram => {
    const histogram = new LogHistogram();
    for (let i = 0; i < 5_000; i++) histogram.record(logNormal(random, median, 0.5));
    return histogram;
  };
  const [fast, other, slow] = [filled(10), filled(10), filled(20)];
  const verdict = judgeNow(
    rollout,
    observe([
      aCount('1.9.0', { durations: fast, queueing: fast }),
      aCount('2.0.0', { durations: slow, queueing: other }),
    ]),
  );
  expect(verdict.guards.map(({ isViolated }) => isViolated)).toEqual([true, false]);
  expect(violationText(verdict)).toMatch(/^p99 x1\.3: p99: 2\.0\.0 is slower: \d+\.?\d* ms against \d+\.?\d* ms \(/);
  expect(verdict.guards[1]?.text).toMatch(/in 5,000 calls of 2\.0\.0, no difference to be seen$/);
});

test('A guard on mirrored answers counts from the start of the rollout, and compares with its limit', () => {
  const rollout = { ...holding(5, 'diff < 1%'), mirrorBefore: { equal: 1_000, different: 500 } };
  const judge = (equal: number, different: number): RolloutVerdict =>
    judgeNow(rollout, observe([], { equal, different }));
  expect(judge(1_000, 500).guards[0]).toMatchObject({ isViolated: false, text: 'no mirrored answers were compared' });
  expect(judge(1_995, 505).guards[0]).toMatchObject({ isViolated: false });
  expect(violationText(judge(1_100, 520))).toBe(
    'diff < 1%: 2.0.0 answers differently: 16.67 % of 120 mirrored answers differ',
  );
  // A process that had counted is gone.
  expect(judge(90, 10).guards[0]).toMatchObject({ isViolated: true });
});

/** Calls of both versions until a guard is violated, or undefined. There is a look at each step of the calls. */
function simulate(
  random: Random,
  { rates, medians, guards, steps, callsPerStep, callsPerLook }: Simulation,
): { readonly share: number; readonly bad: number; readonly calls: number } | undefined {
  const tables = medians.map((median) => new ValueTable(random, (draw) => logNormal(draw, median, 0.5)));
  let [bad, calls] = [0, 0];
  for (const share of steps) {
    const rollout = { ...holding(share, ...guards), steps: [...steps] };
    const counts = [aCount('1.9.0'), aCount('2.0.0')];
    for (let made = 0; made < callsPerStep; made += callsPerLook) {
      for (const [at, count] of counts.entries()) {
        const part = at === 1 ? share / 100 : 1 - share / 100;
        const own = Math.round((made + callsPerLook) * part) - count.calls;
        count.calls += own;
        count.failures += drawHits(random, own, rates[at] as number);
        for (let i = 0; i < own; i++) count.durations.record(tables[at]?.draw(random) ?? 0);
      }
      const verdict = judgeNow(rollout, observe(counts));
      if (violationText(verdict) !== undefined)
        return { share, bad: bad + verdict.badCalls, calls: calls + verdict.calls };
    }
    bad += counts[1]?.failures ?? 0;
    calls += counts[1]?.calls ?? 0;
  }
  return undefined;
}

interface Simulation {
  readonly rates: readonly [first: number, second: number];
  readonly medians: readonly [first: number, second: number];
  readonly guards: readonly string[];
  readonly steps: readonly number[];
  readonly callsPerStep: number;
  readonly callsPerLook: number;
}

describe(`Simulated rollouts (seed ${SEED})`, () => {
  const steps = [1, 5, 25, 50];
  const common = {
    medians: [10, 10],
    guards: ['errors +0pt', 'p99 x1'],
    steps,
    callsPerStep: 6_000,
    callsPerLook: 250,
  } as const;
  const run = (times: number, given: Partial<Simulation>): ReturnType<typeof simulate>[] => {
    const random = new Random(SEED);
    return Array.from({ length: times }, () => simulate(random, { rates: [0.01, 0.01], ...common, ...given }));
  };
  const report = (what: string, ends: readonly ReturnType<typeof simulate>[]): number => {
    const reverted = ends.filter((end) => end !== undefined);
    const middle = (figure: 'bad' | 'calls' | 'share'): number =>
      reverted.map((end) => end[figure]).sort((a, b) => a - b)[Math.floor(reverted.length / 2)] ?? 0;
    console.log(
      `${what}: ${reverted.length} of ${ends.length} reverted; median ${middle('calls')} calls, ${middle('bad')} bad, at ${middle('share')} %`,
    );
    return reverted.length;
  };

  test('of a version that is no worse are reverted in at most 5 % of runs, though the guards allow nothing', () => {
    const times = 150;
    const reverted = report('same version', run(times, {}));
    // Three standard deviations above what alpha allows.
    expect(reverted / times).toBeLessThanOrEqual(ROLLOUT_ALPHA + 3 * Math.sqrt((ROLLOUT_ALPHA * 0.95) / times));
  });

  test('of a version with 3 % errors are reverted, after few calls', () => {
    const ends = run(100, { rates: [0, 0.03], guards: ['errors +0.5pt', 'p99 x1.3', 'diff < 1%'] });
    expect(report('3 % errors against 0 %', ends)).toBe(100);
    const few = run(100, { rates: [0.01, 0.03], guards: ['errors +0.5pt'] });
    expect(report('3 % errors against 1 %', few)).toBe(100);
  });

  test('of a version with twice the p99 are reverted', () => {
    const ends = run(50, { medians: [10, 20], guards: ['errors +0.5pt', 'p99 x1.3', 'diff < 1%'] });
    expect(report('p99 x2', ends)).toBe(50);
  });
});
