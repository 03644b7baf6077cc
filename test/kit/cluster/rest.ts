// CPU use of processes at rest, measured beside a bare Node process: on a busy or virtual machine a wake-up costs many
// times what it costs elsewhere.

import { spawn } from 'node:child_process';
import { sleep } from '../../../core/mod.ts';
import { cpuMsOf, percent } from '../tools/cpu.ts';

export interface Resting {
  readonly name: string;
  readonly pid: number;
}

/** CPU use in the best window, as shares of one processor. */
export interface RestShare {
  readonly share: number;
  /** What the process uses more than the bare one. */
  readonly excess: number;
}

/**
 * Measures until every process has a window in which it uses at most `REST_CPU_MAX` more than a bare process with a
 * timer, or `windows` have passed. A process may collect garbage in the others; one with a loop has none.
 */
export async function measureRest(
  processes: readonly Resting[],
  { windowMs, windows }: { readonly windowMs: number; readonly windows: number },
): Promise<ReadonlyMap<string, RestShare>> {
  const best = new Map(processes.map(({ name }) => [name, { share: 1, excess: 1 }]));
  const bare = spawn(process.execPath, ['-e', `setInterval(() => {}, ${BARE_TIMER_MS})`], { stdio: 'ignore' });
  try {
    const isRestless = (): boolean => [...best.values()].some(({ excess }) => excess > REST_CPU_MAX);
    for (let window = 0; window < windows && isRestless(); window++) {
      const pids = [bare.pid as number, ...processes.map(({ pid }) => pid)];
      const before = pids.map(cpuMsOf);
      await sleep(windowMs);
      const [bareShare = 0, ...shares] = pids.map((pid, at) => (cpuMsOf(pid) - (before[at] as number)) / windowMs);
      processes.forEach(({ name }, index) => {
        const share = shares[index] as number;
        const excess = share - bareShare;
        if (excess < (best.get(name)?.excess ?? 0)) best.set(name, { share, excess });
      });
    }
  } finally {
    bare.kill('SIGKILL');
  }
  return best;
}

/** The processes that never came to rest, for people. */
export function restless(found: ReadonlyMap<string, RestShare>): string[] {
  return [...found]
    .filter(([, { excess }]) => excess > REST_CPU_MAX)
    .map(
      ([name, { share, excess }]) =>
        `${name} uses ${percent(share)} of a processor at rest, ${percent(excess)} more than a bare process, limit is ${percent(REST_CPU_MAX)}`,
    );
}

/** Share of one processor. */
const REST_CPU_MAX = 0.01;
/**
 * Wake-ups of the bare process. A manager with five chassis and eight links, in a mesh of seven processes, has 45 a
 * second for pings; this makes 50.
 */
const BARE_TIMER_MS = 20;
