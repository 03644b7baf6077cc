// Runs the `katamari` program inside the test process, which is faster than a process of its own. Output goes to a
// string that the test reads, and the test passes the key presses.

import { runProgram } from '../../../services/cli/program.ts';
import type { RunResult } from '../../kit/tools/run.ts';

export interface InsideOptions {
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** Columns and rows of a screen with a keyboard; a pipe without. */
  readonly screen?: readonly [columns: number, rows: number];
  /** Called with what is on the screen after each write; returns keys to press. */
  readonly onScreen?: (written: string) => string | undefined;
}

export async function runInside(args: readonly string[], options: InsideOptions): Promise<RunResult> {
  const { cwd, env = {}, input = '', screen, onScreen } = options;
  let stdout = '';
  let stderr = '';
  let press: (key: string) => void = () => undefined;
  const code = await runProgram(args, {
    terminal: {
      write: (text) => {
        stdout += text;
        const key = onScreen?.(text);
        if (key !== undefined) setImmediate(() => press(key));
      },
      writeError: (text) => (stderr += text),
      isScreen: screen !== undefined,
      hasColor: false,
      hasUnicode: true,
      columns: () => screen?.[0] ?? 80,
      rows: () => screen?.[1] ?? 24,
    },
    env,
    cwd,
    program: ['katamari'],
    readInput: () => Promise.resolve(input),
    startMesh: () => Promise.reject(new Error('no mesh in this test')),
    onStopSignal: () => undefined,
    onKey:
      screen === undefined
        ? undefined
        : (act) => {
            press = act;
            return () => undefined;
          },
    exitNow: () => undefined,
  });
  return { code, stdout, stderr };
}
