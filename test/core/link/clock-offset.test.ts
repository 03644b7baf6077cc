// The bound of a peer's clock: never above the true difference, whatever the delays, and as close to it as the best
// answer allows.

import { describe, expect, test } from 'vitest';
import { ClockOffset } from '../../../core/link/clock-offset.ts';
import { Random } from '../../kit/tools/random.ts';

/** The true difference between the two clocks, in ms. */
const TRUE_MS = 86_400_000;

describe('ClockOffset.toPeer()', () => {
  test('knows nothing before the first measurement', () => {
    expect(new ClockOffset().toPeer(1_000, 1_000)).toBeUndefined();
  });

  test('is never later than the true time, and late by the fastest answer', () => {
    const random = new Random(5);
    const offset = new ClockOffset();
    let fastestMs = Number.POSITIVE_INFINITY;
    for (let nowMs = 0; nowMs < 40_000; nowMs += 400) {
      const backMs = 1 + random.below(2_000);
      fastestMs = Math.min(fastestMs, backMs);
      offset.measured(nowMs - backMs + TRUE_MS, nowMs);
      const earlyMs = nowMs + 300 + TRUE_MS - (offset.toPeer(nowMs + 300, nowMs) as number);
      expect(earlyMs).toBeGreaterThanOrEqual(0);
      expect(earlyMs).toBeLessThanOrEqual(fastestMs + nowMs * 0.001 + 0.001);
    }
  });

  test('holds while the clocks drift apart by 500 ppm each, without a further answer', () => {
    const offset = new ClockOffset();
    offset.measured(TRUE_MS, 0);
    for (const nowMs of [1_000, 60_000, 3_600_000]) {
      const peerMs = TRUE_MS + nowMs * (1 - 0.0009);
      expect(offset.toPeer(nowMs, nowMs)).toBeLessThanOrEqual(peerMs);
    }
  });
});
