// Output of chassis that print more than can be logged.
import { expect, test } from 'vitest';
import { LineRate } from '../../../services/resource-manager/line-rate.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

test('hands on 2,000 lines per second of a chassis, drops the rest, and says how many', () => {
  const clock = new ManualClock();
  const seen: string[] = [];
  const push = new LineRate(clock).limited((line) => seen.push(line));
  for (let i = 0; i < 5_000; i++) push(`line ${i}`);
  expect([seen.length, seen.at(-1)]).toEqual([2_000, 'line 1999']);
  clock.advance(1_000);
  expect(seen.at(-1)).toBe('3000 lines were dropped: limits are 2000 lines per second, 10000 for all chassis');
  push('later');
  expect([seen.at(-1), clock.waiting]).toEqual(['later', 0]);
});

test('hands on 10,000 lines per second of all chassis together', () => {
  const clock = new ManualClock();
  const rate = new LineRate(clock);
  let lines = 0;
  const chassis = Array.from({ length: 8 }, () => rate.limited(() => lines++));
  for (let i = 0; i < 1_500; i++) for (const push of chassis) push('x');
  expect(lines).toBe(10_000);
  clock.advance(1_000);
  expect(lines).toBe(10_008);
  chassis[0]?.('next second');
  expect(lines).toBe(10_009);
});
