import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { fixture, isAlive, work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

let mesh: MeshProcess | undefined;
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
});

/**
 * A mesh of chassis that will not hear: one computes, one is stopped, one is deaf to SIGTERM, one has started a
 * process of its own.
 */
async function deafMesh(): Promise<{ mesh: MeshProcess; all: number[] }> {
  mesh = await startMeshProcess({
    settings: { timeout: '120s' },
    deployments: [
      work({ version: '1.0.0' }),
      work({ version: '2.0.0', pingEvery: '60s' }),
      work({ version: '3.0.0', command: fixture('ignores-sigterm.ts') }),
      work({ version: '4.0.0' }),
    ],
  });
  const up = mesh;
  // Nobody waits for this one; the end of the mesh rejects it.
  up.call('Work@1.0.0.spin', { ms: 100_000 }).catch(() => undefined);
  const pid = async (version: string): Promise<number> =>
    (await up.status()).pools.find((pool) => pool.version === version)?.resources[0]?.pid as number;
  process.kill(await pid('2.0.0'), 'SIGSTOP');
  const grandchild = (await up.call('Work@4.0.0.spawnChild')).result as number;
  await until('the first to compute', async () =>
    (await up.status()).pools.some(({ version, resources }) => version === '1.0.0' && resources[0]?.state === 'busy'),
  );
  // In the moment of its exec a process shows no environment, by which it would be known.
  await until('the grandchild to be seen', () => up.descendants().includes(grandchild));
  const all = up.descendants();
  // Four chassis, the grandchild, and the helper that ends them.
  expect(all.length).toBe(6);
  return { mesh: up, all };
}

describe('No chassis outlives its mesh', () => {
  test('not when the mesh is killed with SIGKILL', async () => {
    const { mesh, all } = await deafMesh();
    await mesh.kill('process');
    await until('every process to end', () => all.every((pid) => !isAlive(pid)));
    expect(mesh.descendants()).toEqual([]);
  }, 60_000);

  test('not when the whole process group of the mesh is killed', async () => {
    const { mesh, all } = await deafMesh();
    await mesh.kill('group');
    await until('every process to end', () => all.every((pid) => !isAlive(pid)));
    expect(mesh.descendants()).toEqual([]);
  }, 60_000);

  test('not when somebody killed the helper that ends them, a moment before', async () => {
    const { mesh } = await deafMesh();
    await mesh.call('Work@4.0.0.spawnChild');
    const helpers = (): number[] => mesh.descendants().filter(isHelper);
    const [helper = 0] = helpers();
    process.kill(helper, 'SIGKILL');
    await until('another helper', () => helpers().some((pid) => pid !== helper));
    await mesh.kill('process');
    await until('every process to end', () => mesh.descendants().length === 0);
  }, 60_000);

  test('not when the mesh is told to end: it drains, ends them in steps, and exits with 0', async () => {
    const { mesh, all } = await deafMesh();
    // The one that computes would be waited for.
    const { pools } = await mesh.status();
    process.kill(pools.find(({ version }) => version === '1.0.0')?.resources[0]?.pid as number, 'SIGKILL');
    expect(await mesh.stop()).toBe(0);
    expect(all.filter(isAlive)).toEqual([]);
    expect(mesh.descendants()).toEqual([]);
  }, 60_000);
});

/** The shell that ends what a mesh leaves behind. Told by what it is to do: chassis come and go meanwhile. */
function isHelper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes("trap '' INT TERM HUP");
  } catch {
    return false;
  }
}
