// A rollout of Search 2.0.0 beside 1.9.0, as it is when it begins.

import type { Rollout } from '../../../services/mesh/mod.ts';

export function aRollout(given: Partial<Rollout> = {}): Rollout {
  return {
    service: 'Search',
    to: '2.0.0',
    from: '1.9.0',
    steps: [1, 5, 25, 50, 100],
    holdMs: 120_000,
    keepMs: 600_000,
    startMs: 60_000,
    guards: [{ metric: 'errors', max: 0.5 }],
    copies: 'follow',
    by: 'ada',
    startedAtMs: 0,
    state: 'running',
    reason: '',
    phase: 'scaling',
    step: 0,
    sinceMs: 0,
    splitIndex: 0,
    share: 0,
    routeBefore: { weights: { '1.9.0': 100 } },
    copiesBefore: { from: 10, to: 1 },
    mirrorBefore: { equal: 0, different: 0 },
    passed: [],
    calls: 0,
    badCalls: 0,
    isSettled: false,
    ...given,
  };
}
