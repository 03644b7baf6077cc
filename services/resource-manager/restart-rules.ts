// When a chassis is started again: restart rules as data, as in Erlang's supervisors, and the functions that apply
// them. Pure functions; nothing here starts a process.

import type { RestartRules } from '../mesh/mod.ts';

/** The starts of one slot, newest last. */
export interface StartHistory {
  readonly startedAtMs: readonly number[];
  /** Consecutive starts that never became ready. */
  readonly failedStarts: number;
  /** Consecutive pauses. */
  readonly pauses: number;
}

export const NO_STARTS: StartHistory = { startedAtMs: [], failedStarts: 0, pauses: 0 };

/**
 * Pause before the next start in ms; 0 for at once. A process that was ready and then died is replaced at once until
 * the intensity is reached. After a failed start there is always a pause, with exponential backoff.
 */
export function pauseBeforeStart(rules: RestartRules, history: StartHistory, nowMs: number): number {
  const recent = history.startedAtMs.filter((atMs) => nowMs - atMs < rules.periodMs).length;
  if (history.failedStarts === 0 && recent < rules.intensity) return 0;
  return Math.min(rules.backoffMaxMs, rules.backoffFirstMs * 2 ** Math.min(history.pauses, PAUSE_DOUBLINGS_MAX));
}

/** Adds a start to the history. */
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
