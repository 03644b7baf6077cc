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
 * A mesh of uncooperative chassis: one computes, one is stopped, one ignores SIGTERM, and one has started a child
 * process.
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
  // This call is not awaited; the end of the mesh rejects it.
  up.call('Work@1.0.0.spin', { ms: 100_000 }).catch(() => undefined);
  const pid = async (version: string): Promise<number> =>
    (await up.status()).pools.find((pool) => pool.version === version)?.resources[0]?.pid as number;
  process.kill(await pid('2.0.0'), 'SIGSTOP');
  const grandchild = (await up.call('Work@4.0.0.spawnChild')).result as number;
  await until('the first to compute', async () =>
    (await up.status()).pools.some(({ version, resources }) => version === '1.0.0' && resources[0]?.state === 'busy'),
  );
  // During its exec, a process has no environment and cannot be recognized by the marker.
  await until('the grandchild to be seen', () => up.descendants().includes(grandchild));
  const all = up.descendants();
  // Four chassis, the grandchild, and the reaper.
  expect(all.length).toBe(6);
  return { mesh: up, all };
}

describe('No chassis outlives its mesh', () => {
  test('not when the mesh is killed with SIGKILL', async () => {
    const { mesh, all } = await deafMesh();
    await mesh.kill('process');
    await until('every process to end', () => all.every((pid) => !isAlive(pid)));
    expect(mesh.descendants()).toEqual([]);
  });

  test('not when the whole process group of the mesh is killed', async () => {
    const { mesh, all } = await deafMesh();
    await mesh.kill('group');
    await until('every process to end', () => all.every((pid) => !isAlive(pid)));
    expect(mesh.descendants()).toEqual([]);
  });

  test('not when the reaper was killed just before', async () => {
    const { mesh } = await deafMesh();
    await mesh.call('Work@4.0.0.spawnChild');
    const helpers = (): number[] => mesh.descendants().filter(isHelper);
    const [helper = 0] = helpers();
    process.kill(helper, 'SIGKILL');
    await until('another helper', () => helpers().some((pid) => pid !== helper));
    await mesh.kill('process');
    await until('every process to end', () => mesh.descendants().length === 0);
  });

  test('not when the mesh is stopped: it drains, ends them in steps, and exits with 0', async () => {
    const { mesh, all } = await deafMesh();
    // The drain would wait for the computing one.
    const { pools } = await mesh.status();
    process.kill(pools.find(({ version }) => version === '1.0.0')?.resources[0]?.pid as number, 'SIGKILL');
    expect(await mesh.stop()).toBe(0);
    expect(all.filter(isAlive)).toEqual([]);
    expect(mesh.descendants()).toEqual([]);
  });
});

/** Shell commands that leave a process behind and print its pid. */
const AWAY: Readonly<Record<string, string>> = {
  'another session': 'setsid sleep 300 >/dev/null & echo $!',
  'a double fork': '(setsid sh -c "sleep 300 >/dev/null & echo \\$!" &)',
  'another process group': 'set -m; sleep 300 >/dev/null & echo $!',
  'a session inside a session': 'setsid setsid -f sh -c "echo \\$\\$; exec sleep 300 >/dev/null"',
};

describe('A process that a chassis starts ends with it', () => {
  test.each(Object.entries(AWAY))('%s', async (_, command) => {
    mesh = await startMeshProcess({ deployments: [work()] });
    const up = mesh;
    const before = up.descendants().length;
    const spawnAway = async (): Promise<number> =>
      (await until('the pid', async () => (await up.call('Work.spawnAway', { command })).result)) as number;
    const first = await spawnAway();
    expect(isAlive(first)).toBe(true);
    await up.call('Work.die', { status: 0 });
    await until('it to end with its chassis', () => !isAlive(first));
    const second = await spawnAway();
    expect(isAlive(second)).toBe(true);
    await up.kill('process');
    await until('it to end with the mesh', () => !isAlive(second));
    await until('all to end', () => up.descendants().length === 0);
    expect(before).toBeGreaterThan(0);
  });
});

/** The reaper's shell. It is recognized by its command, because chassis come and go meanwhile. */
function isHelper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes("trap '' INT TERM HUP");
  } catch {
    return false;
  }
}
