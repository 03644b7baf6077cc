import { describe, expect, test } from 'vitest';
import { ManualClock } from '../kit/tools/manual-clock.ts';
import { RetryBudget } from '../../core/mod.ts';

/** Number of retries that it grants now. */
function taken(budget: RetryBudget): number {
  let count = 0;
  while (budget.take()) count++;
  return count;
}

describe('RetryBudget', () => {
  test('grants ten retries at once, and ten more each second', () => {
    const clock = new ManualClock();
    const budget = new RetryBudget(clock);
    expect(taken(budget)).toBe(10);
    clock.advance(1_000);
    expect(taken(budget)).toBe(10);
    clock.advance(250);
    expect(taken(budget)).toBe(2);
  });

  test('grants one more retry for every five calls', () => {
    const budget = new RetryBudget(new ManualClock());
    taken(budget);
    for (let call = 0; call < 50; call++) budget.called();
    expect(Math.abs(taken(budget) - 10)).toBeLessThanOrEqual(1);
  });

  test('saves at most 200 retries', () => {
    const clock = new ManualClock();
    const budget = new RetryBudget(clock);
    for (let call = 0; call < 10_000; call++) budget.called();
    clock.advance(3_600_000);
    expect(taken(budget)).toBe(200);
  });
});
