// The system clock and delays that a timer of the runtime cannot hold.

import { expect, test } from 'vitest';
import { sleep, systemClock } from '../../core/mod.ts';

/** The runtime runs a timer of more ms than this at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const BEYOND = [TIMER_MS_MAX + 1, 2 ** 40, Number.MAX_VALUE, Number.POSITIVE_INFINITY];

test('A timer of more than 24 days does not run at once, and can be canceled', async () => {
  const ran: number[] = [];
  const cancels = BEYOND.map((delayMs) => systemClock.after(delayMs, () => ran.push(delayMs)));
  // A timer that overflows runs after 1 ms, so before this one.
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(ran).toEqual([]);
  for (const cancel of cancels) cancel();
  await new Promise<void>((resolve) => void systemClock.after(1, resolve));
});

test('A sleep of more than 24 days lasts until its signal is aborted', async () => {
  const end = new AbortController();
  let isOver = false;
  const slept = Promise.all(BEYOND.map((delayMs) => sleep(delayMs, end.signal).then(() => (isOver = true))));
  slept.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(isOver).toBe(false);
  end.abort(new Error('enough'));
  await expect(slept).rejects.toThrow('enough');
});
