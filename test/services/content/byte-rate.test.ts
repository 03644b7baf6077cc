// The limit of bytes per second, by a clock that the test moves.
import { expect, test } from 'vitest';
import { ByteRate } from '../../../services/content/fetch/byte-rate.ts';

class Time {
  ms = 0;
  waits = 0;
  readonly nowMs = (): number => this.ms;
  readonly sleep = (ms: number): Promise<void> => {
    this.ms += ms;
    this.waits++;
    return Promise.resolve();
  };
}

test.each([
  [1_000_000, 65_536, 400],
  [50_000_000, 262_144, 2_000],
  [1_000, 65_536, 3],
  [7, 1, 100],
])('%i bytes a second in chunks of %i keep to it within a tenth', async (bytesPerS, chunk, count) => {
  const time = new Time();
  const rate = new ByteRate(bytesPerS, time);
  for (let n = 0; n < count; n++) {
    // The source needs some time for a chunk, less than the limit allows.
    time.ms += (chunk / bytesPerS) * 1_000 * 0.3;
    await rate.spend(chunk, () => undefined);
  }
  const ratio = (chunk * count) / (time.ms / 1_000) / bytesPerS;
  expect(ratio).toBeGreaterThan(0.9);
  expect(ratio).toBeLessThan(1.1);
});

test('a source that was silent is not made up for by a burst of more than half a second or a chunk', async () => {
  const time = new Time();
  const rate = new ByteRate(1_000, time);
  time.ms += 60_000;
  await rate.spend(500, () => undefined);
  expect(time.ms).toBe(60_000);
  await rate.spend(1_000, () => undefined);
  expect(time.ms).toBe(61_000);
});

test('a long wait is told every second, and no limit never waits', async () => {
  const time = new Time();
  let told = 0;
  await new ByteRate(1_000, time).spend(10_000, () => told++);
  expect([time.ms, told]).toEqual([10_000, 10]);
  await new ByteRate(0, time).spend(1e12, () => told++);
  expect([time.ms, told]).toEqual([10_000, 10]);
});

test('a new limit holds from its change on, for a wait that has begun too', async () => {
  const time = new Time();
  const rate = new ByteRate(1_000, time);
  await rate.spend(1_000, () => undefined);
  expect(time.ms).toBe(1_000);
  rate.change(2_000);
  await rate.spend(1_000, () => undefined);
  expect(time.ms).toBe(1_500);
  // After the first second of the wait, the rest passes at twice the rate.
  await rate.spend(5_000, () => time.ms === 2_500 && rate.change(4_000));
  expect(time.ms).toBe(3_250);
});
