// Hostile input at every port. Afterwards everything works as before, no memory is retained, and every call is
// accounted for. KATAMARI_FUZZ_INPUTS sets the number of inputs (default 100,000), KATAMARI_FUZZ_SEED repeats a run.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { fuzz } from './fuzzer.ts';
import { startOwnTarget, type OwnTarget } from './own-target.ts';
import type { Memory } from './target.ts';

const INPUTS = Number(process.env['KATAMARI_FUZZ_INPUTS'] ?? 100_000);
const SEED = Number(process.env['KATAMARI_FUZZ_SEED'] ?? Date.now() % 2 ** 31);

/**
 * Maximum growth in memory from one third of the run to the end, in bytes. Compiled code, bounded caches (4,096 names
 * of up to 1 KiB) and garbage collection slack take a few MiB. A leak of 250 bytes an input would be 16 MiB for the
 * other 66,667.
 */
const HEAP_GROWTH_MAX = 16 << 20;
/** The same for the whole process: allocators return pages late and in large pieces. */
const RSS_GROWTH_MAX = 160 << 20;

let target: OwnTarget | undefined;
beforeAll(async () => {
  target = await startOwnTarget();
});
afterAll(() => target?.close());

test(`${INPUTS} hostile inputs (KATAMARI_FUZZ_SEED=${SEED}) leave the mesh whole, level and with every call accounted for`, async () => {
  const own = target as OwnTarget;
  const beganMs = performance.now();
  const memory: Memory[] = [];
  const report = await fuzz(own, {
    seed: SEED,
    inputs: INPUTS,
    windows: 3,
    onWindow: async () => void memory.push(await own.memory()),
  });
  const seconds = (performance.now() - beganMs) / 1000;
  process.stdout.write(
    `fuzz: ${JSON.stringify({ inputs: report.inputs, byLane: Object.fromEntries(report.byLane), memory, seed: SEED, seconds: Math.round(seconds), seen: own.seen, sums: own.callStats.sums() })}\n`,
  );
  await own.check();
  expect(report.inputs).toBeGreaterThanOrEqual(INPUTS);
  // Part of the input must have been accepted, or the test proves nothing.
  for (const [lane, { inputs, answeredBytes }] of report.byLane) {
    expect(inputs, lane).toBeGreaterThan(INPUTS / 50);
    expect(answeredBytes, lane).toBeGreaterThan(inputs / 10);
  }
  expect(own.seen.handled).toBeGreaterThan(INPUTS / 50);
  expect(own.callStats.sums().refused).toBeGreaterThan(INPUTS / 50);
  expect([...report.byLane.values()].reduce((sum, { answeredBytes }) => sum + answeredBytes, 0)).toBeGreaterThan(
    INPUTS,
  );
  const [first, last] = [memory[0] as Memory, memory.at(-1) as Memory];
  expect((last.heapBytes - first.heapBytes) / 2 ** 20, 'MiB of heap').toBeLessThan(HEAP_GROWTH_MAX / 2 ** 20);
  expect((last.rssBytes - first.rssBytes) / 2 ** 20, 'MiB of the process').toBeLessThan(RSS_GROWTH_MAX / 2 ** 20);
}, 600_000);
