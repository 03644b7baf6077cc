// When a chassis is started again and when it is recycled: rules as data, as in Erlang's supervisors, and the one function that applies
// them. Nothing here starts anything.

import type { RestartRules } from '../mesh/mod.ts';

/** The starts of one place, newest last. */
export interface StartHistory {
  readonly startedAtMs: readonly number[];
  /** Starts in a row that never got as far as being introduced. */
  readonly failedStarts: number;
  /** Pauses taken in a row. */
  readonly pauses: number;
}

export const NO_STARTS: StartHistory = { startedAtMs: [], failedStarts: 0, pauses: 0 };

/**
 * How long to wait before the next start, in ms; 0 for at once. A process that was introduced and then died is replaced at once until
 * the intensity is reached; one that failed its start always waits, longer each time.
 */
export function pauseBeforeStart(rules: RestartRules, history: StartHistory, nowMs: number): number {
  const recent = history.startedAtMs.filter((atMs) => nowMs - atMs < rules.periodMs).length;
  if (history.failedStarts === 0 && recent < rules.intensity) return 0;
  return Math.min(rules.backoffMaxMs, rules.backoffFirstMs * 2 ** Math.min(history.pauses, PAUSE_DOUBLINGS_MAX));
}

/** The history after another start. */
export function afterStart(
  rules: RestartRules,
  history: StartHistory,
  nowMs: number,
  wasPaused: boolean,
): StartHistory {
  const startedAtMs = [...history.startedAtMs.filter((atMs) => nowMs - atMs < rules.periodMs), nowMs];
  return { ...history, startedAtMs, pauses: wasPaused ? history.pauses + 1 : history.pauses };
}

const PAUSE_DOUBLINGS_MAX = 20;
