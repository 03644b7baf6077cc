import { describe, expect, test } from 'vitest';
import {
  afterStart,
  NO_STARTS,
  pauseBeforeStart,
  type StartHistory,
} from '../../../services/resource-manager/restart-rules.ts';

const RULES = { intensity: 5, periodMs: 30_000, backoffFirstMs: 500, backoffMaxMs: 30_000 };

describe('pauseBeforeStart()', () => {
  test('makes the first starts without a pause', () => {
    expect(pauseBeforeStart(RULES, NO_STARTS, 0)).toBe(0);
  });

  test('backs off when the intensity is reached within the period', () => {
    let history: StartHistory = NO_STARTS;
    for (let atMs = 0; atMs < 5; atMs++) {
      expect(pauseBeforeStart(RULES, history, atMs)).toBe(0);
      history = afterStart(RULES, history, atMs, false);
    }
    expect(pauseBeforeStart(RULES, history, 5)).toBe(500);
    expect(pauseBeforeStart(RULES, history, 30_005)).toBe(0);
  });

  test('doubles each pause up to the maximum', () => {
    let history: StartHistory = { ...NO_STARTS, failedStarts: 1 };
    const pauses: number[] = [];
    for (let n = 0; n < 9; n++) {
      pauses.push(pauseBeforeStart(RULES, history, 0));
      history = afterStart(RULES, history, 0, true);
    }
    expect(pauses).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  test('pauses after one failed start, however few starts there were', () => {
    expect(pauseBeforeStart(RULES, { ...NO_STARTS, failedStarts: 1 }, 0)).toBe(500);
  });

  test('keeps only the starts within the period', () => {
    let history: StartHistory = NO_STARTS;
    for (let atMs = 0; atMs < 1_000_000; atMs += 10_000) history = afterStart(RULES, history, atMs, false);
    expect(history.startedAtMs.length).toBeLessThanOrEqual(3);
  });
});
