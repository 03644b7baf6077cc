// A mesh in one process at rest. Wake-ups are counted instead of CPU time, which depends on the machine. Linux.

import { afterAll, expect, test } from 'vitest';
import { runtimeName } from '../../core/mod.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { wakeUpsOf } from '../kit/tools/cpu.ts';

/**
 * Ten a second on Node: five samples of the event loop's lag, periodic work that shares its moments, and pings. The
 * other runtimes wake for reasons of their own.
 */
const WAKE_UPS_PER_S_MAX = runtimeName() === 'node' ? 15 : 30;
const WINDOW_S = 3;
const WINDOWS = 12;

let mesh: MeshProcess | undefined;
afterAll(() => mesh?.end());

test('A mesh in one process wakes rarely while nothing calls it', async () => {
  mesh = await startMeshProcess({ deployments: [work({ count: 4 }), work({ version: '2.0.0', count: 4 })] });
  const perSecond: number[] = [];
  // The start may last into the first windows.
  while (perSecond.length < WINDOWS && !perSecond.some((found) => found <= WAKE_UPS_PER_S_MAX)) {
    const before = wakeUpsOf(mesh.pid);
    await new Promise((resolve) => setTimeout(resolve, WINDOW_S * 1_000));
    perSecond.push((wakeUpsOf(mesh.pid) - before) / WINDOW_S);
  }
  expect(Math.min(...perSecond)).toBeLessThanOrEqual(WAKE_UPS_PER_S_MAX);
});
