// When /readyz fails: at the start, and when no service can be reached for as long as a call may wait.

import { expect, test } from 'vitest';
import type { PoolStatus, PoolView } from '../../../core/rpc/mod.ts';
import { ProcessReadiness } from '../../../services/process/process-readiness.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

interface State {
  isComplete: boolean;
  hasDeployments: boolean;
  /** Living copies by service. */
  alive: Readonly<Record<string, number>>;
}

function start(change: Partial<State>, hasFaceplates = true) {
  const clock = new ManualClock();
  const state: State = { isComplete: true, hasDeployments: true, alive: {}, ...change };
  const readiness = new ProcessReadiness({
    clock,
    hasFaceplates,
    isComplete: () => state.isComplete,
    hasDeployments: () => state.hasDeployments,
    pools: () => Object.entries(state.alive).map(([service, alive]) => ({ details: { service }, alive }) as PoolView),
    ownPools: () => [{ id: 'Work@1.0.0', alive: 1, wanted: 2 } as PoolStatus],
    timeoutMs: () => 10_000,
  });
  return { clock, state, readiness };
}

test('ProcessReadiness names the copies that a starting process lacks, and lasts when one of them fails later', () => {
  const { state, readiness } = start({ isComplete: false, alive: { Work: 1 } });
  expect(readiness.why()).toBe('chassis are starting: 1 of 2 of Work@1.0.0');
  state.isComplete = true;
  expect(readiness.why()).toBe('');
  state.isComplete = false;
  expect(readiness.why()).toBe('');
});

test('ProcessReadiness of a faceplate begins when a copy of any service can be reached', () => {
  const { state, readiness } = start({ alive: { Katamari: 1, Work: 0 } });
  expect(readiness.why()).toBe('no copy of any service is up or can be reached, for 0 s');
  state.alive = { Work: 1, Other: 0 };
  expect(readiness.why()).toBe('');
});

test('ProcessReadiness ends when no copy of any service was up for as long as a call may wait', () => {
  const { clock, state, readiness } = start({ alive: { Work: 2, Other: 1 } });
  expect(readiness.why()).toBe('');
  state.alive = { Work: 0, Other: 1 };
  clock.advance(60_000);
  expect(readiness.why()).toBe('');
  state.alive = { Katamari: 1, Work: 0 };
  readiness.update();
  clock.advance(9_999);
  expect(readiness.why()).toBe('');
  clock.advance(1);
  expect(readiness.why()).toBe('no copy of any service is up or can be reached, for 10 s');
  state.alive = { Work: 1 };
  expect(readiness.why()).toBe('');
});

test('ProcessReadiness needs no copy in a mesh without deployments, or in a process without faceplates', () => {
  expect(start({ hasDeployments: false }).readiness.why()).toBe('');
  expect(start({}, false).readiness.why()).toBe('');
});
