// Hostile input at every port of a whole mesh in processes of their own, in both directions. Afterwards the same
// processes answer every right call, count no defect, and hold memory, files and CPU level.
// KATAMARI_FUZZ_MESH_INPUTS sets the number of inputs (default 19,500), KATAMARI_FUZZ_SEED repeats a run.
// `npm run fuzz` runs as many as wanted.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { runMeshFuzz } from './mesh-run.ts';
import { startMeshTarget, type MeshTarget } from './mesh-target.ts';

const INPUTS = Number(process.env['KATAMARI_FUZZ_MESH_INPUTS'] ?? 19_500);
const SEED = Number(process.env['KATAMARI_FUZZ_SEED'] ?? Date.now() % 2 ** 31);

let target: MeshTarget | undefined;
beforeAll(async () => {
  target = await startMeshTarget();
});
afterAll(() => target?.close());

test(`${INPUTS} hostile inputs at all ports (KATAMARI_FUZZ_SEED=${SEED}) leave a mesh alive, right and level`, async () => {
  const run = await runMeshFuzz(target as MeshTarget, { seed: SEED, inputs: INPUTS });
  const { report, growth, canaries, restShare } = run;
  process.stdout.write(
    `fuzz of a whole mesh: ${JSON.stringify({ seed: SEED, byLane: Object.fromEntries(report.byLane), growth, canaries, restShare })}\n`,
  );
  for (const [lane, { inputs, answeredBytes }] of report.byLane) {
    expect(inputs, lane).toBeGreaterThanOrEqual(INPUTS / report.byLane.size);
    expect(answeredBytes, lane).toBeGreaterThan(inputs / 10);
  }
  expect(canaries.right).toBeGreaterThan(0);
  expect(run.violations).toEqual([]);
}, 600_000);
