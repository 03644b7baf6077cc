import { describe, expect, test } from 'vitest';
import { FailedAttempts } from '../../../services/master/failed-attempts.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

describe('FailedAttempts', () => {
  test('lets a source fail ten times at once, then once every 6 s', () => {
    const clock = new ManualClock();
    const attempts = new FailedAttempts(clock);
    for (let at = 0; at < 10; at++) expect(attempts.failed('10.0.0.1')).toBe(0);
    expect(attempts.isLimited('10.0.0.1')).toBe(true);
    expect(attempts.failed('10.0.0.1')).toBe(6_000);
    expect(attempts.isLimited('10.0.0.2')).toBe(false);
    clock.advance(6_000);
    expect(attempts.isLimited('10.0.0.1')).toBe(false);
    expect(attempts.failed('10.0.0.1')).toBe(0);
    expect(attempts.failed('10.0.0.1')).toBe(6_000);
    clock.advance(3_600_000);
    for (let at = 0; at < 10; at++) expect(attempts.failed('10.0.0.1')).toBe(0);
    expect(attempts.failed('10.0.0.1')).toBe(6_000);
  });

  test('limits all sources together', () => {
    const clock = new ManualClock();
    const attempts = new FailedAttempts(clock);
    let passed = 0;
    for (let at = 0; at < 20_000; at++) if (attempts.failed(`10.0.${at >> 8}.${at & 255}`) === 0) passed++;
    expect(passed).toBe(100);
    expect(attempts.isLimited('10.9.9.9')).toBe(true);
    clock.advance(100);
    expect(attempts.isLimited('10.9.9.9')).toBe(false);
  });
});
