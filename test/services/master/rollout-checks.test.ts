// What a rollout is refused for before it begins.

import { expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import { ThriftException, type Interface } from '../../../core/thrift/mod.ts';
import {
  checkCallers,
  checkGuards,
  checkSteps,
  checkVersions,
  versionBefore,
} from '../../../services/master/rollout-checks.ts';
import { aRollout } from './a-rollout.ts';

/** The reason of a refusal; '' without one. */
function whyNot(act: () => unknown): string {
  try {
    act();
    return '';
  } catch (error) {
    if (error instanceof ThriftException) return (error.fields as { why: string }).why;
    throw error;
  }
}

const KNOWN = { versions: ['2.0.0', '1.8.0', '1.9.0'], interfaces: [], isIndex: false };

function anInterface(methods: string): Interface {
  const text = `service Search { ${methods} }`;
  return parseIdl({ main: 'a.thrift', files: { 'a.thrift': text } }).services.get('Search') as Interface;
}

test('Steps must rise to 100, and times be within bounds', () => {
  expect(whyNot(() => checkSteps(aRollout()))).toBe('');
  const steps = (...shares: number[]): string => whyNot(() => checkSteps(aRollout({ steps: shares })));
  expect(steps()).toContain('has 0 steps, expected 1 to 100');
  expect(steps(-1, 100)).toBe('step 1 is -1 %, expected above 0 and at most 100');
  expect(steps(Number.NaN, 100)).toBe('step 1 is NaN %, expected above 0 and at most 100');
  expect(steps(5, 5, 100)).toBe('step 2 is 5 %, which is not above the 5 % before it; expected rising shares');
  expect(steps(0.001, 100)).toBe('step 1 is 0.001 %, expected at most two digits after the point');
  expect(steps(5, 50)).toContain('the last step is 50 %, expected 100');
  expect(steps(0.01, 0.29, 33.33, 100)).toBe('');
  expect(whyNot(() => checkSteps(aRollout({ holdMs: -1 })))).toContain('hold is -1 ms, expected 0 to');
  expect(whyNot(() => checkSteps(aRollout({ holdMs: 10 })))).toContain('in which no guard can see anything');
  const guards = [{ metric: 'p99', max: 1 } as const, { metric: 'p99', max: 2 } as const];
  expect(whyNot(() => checkSteps(aRollout({ guards })))).toBe('there are two guards on p99, expected one');
});

test('Versions must exist, and be two', () => {
  expect(whyNot(() => checkVersions(aRollout(), KNOWN))).toBe('');
  expect(whyNot(() => checkVersions(aRollout({ to: '3.0.0' }), KNOWN))).toBe(
    '3.0.0 is no version of Search, which has 1.8.0, 1.9.0, 2.0.0; deploy it first: katamari deploy',
  );
  expect(whyNot(() => checkVersions(aRollout({ from: '2.0.0' }), KNOWN))).toContain('from 2.0.0 to itself');
  expect(whyNot(() => checkVersions(aRollout(), { ...KNOWN, isIndex: true }))).toContain('katamari index promote');
});

test('The old version is the one with the highest weight, else the highest one', () => {
  expect(versionBefore('Search', '2.0.0', { weights: { '1.8.0': 70, '1.9.0': 30 } }, KNOWN)).toBe('1.8.0');
  expect(versionBefore('Search', '2.0.0', { weights: { '2.0.0': 70 } }, KNOWN)).toBe('1.9.0');
  expect(versionBefore('Search', '2.0.0', undefined, KNOWN)).toBe('1.9.0');
  const alone = { ...KNOWN, versions: ['2.0.0'] };
  expect(whyNot(() => versionBefore('Search', '2.0.0', undefined, alone))).toContain('has no version but 2.0.0');
});

test('Callers of the old version must be able to call the new one', () => {
  const [older, newer] = [anInterface('i32 find(1: i32 id) void old()'), anInterface('string find(1: i32 id)')];
  const why = whyNot(() => checkCallers(aRollout(), older, newer));
  expect(why).toContain('callers of Search@1.9.0 cannot call 2.0.0:');
  expect(why).toContain('find: result i32 became string');
  expect(why).toContain('old was removed');
  expect(checkCallers(aRollout(), older, anInterface('i32 find(1: i32 id) void old() void more()'))).toBe('');
  expect(checkCallers(aRollout(), older, undefined)).toContain('no copy of 2.0.0 is up');
});

test('A guard on mirrored answers needs a mirror to the new version', () => {
  const plan = aRollout({ guards: [{ metric: 'diff', max: 1 }] });
  const mirrored = (to: string, share: number): string =>
    whyNot(() => checkGuards(plan, { weights: {}, mirror: { to, share } }));
  expect(mirrored('2.0.0', 10)).toBe('');
  for (const why of [mirrored('2.0.0', 0), mirrored('1.9.0', 10), whyNot(() => checkGuards(plan, undefined))])
    expect(why).toContain('has no mirror to 2.0.0; add one first: katamari route Search --mirror 2.0.0=10');
});
