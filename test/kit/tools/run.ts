// Runs the real `katamari` program as a child process: the compiled one on Node, the sources on the other runtimes.
// Each run has its own empty working directory, home and environment, so that nothing of the machine influences a
// test.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { scriptCommand } from '../../../core/mod.ts';
import { fileURLToPath } from 'node:url';
import { until } from './wait.ts';

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** A program to run in place of the command, relative to the repository, such as a fixture that wraps it. */
  readonly program?: string;
}

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A run in progress. */
export interface Running {
  readonly child: ChildProcess;
  /** Sends a signal. Not `child.kill`: with it, one runtime reports every exit as caused by that signal. */
  readonly signal: (name: 'SIGTERM' | 'SIGINT' | 'SIGKILL') => void;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Waits until standard output matches. */
  readonly says: (pattern: RegExp) => Promise<void>;
  readonly ended: Promise<RunResult>;
}

export function runKatamari(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return startKatamari(args, options).ended;
}

export function startKatamari(args: readonly string[], options: RunOptions = {}): Running {
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'katamari-run-'));
  const file = fileURLToPath(new URL(`../../../${options.program ?? 'services/cli/main.ts'}`, import.meta.url));
  const [program = '', ...first] = scriptCommand(file);
  const child = spawn(program, [...first, ...args], {
    cwd: options.cwd ?? scratch,
    env: { PATH: process.env['PATH'], HOME: scratch, LANG: 'C.UTF-8', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (stdout += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (stderr += part));
  // A program that ends without reading its input closes the pipe, which is no failure.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const ended = new Promise<RunResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      rmSync(scratch, { recursive: true, force: true });
      resolve({ code, stdout, stderr });
    });
  });
  return {
    child,
    signal: (name) => void process.kill(child.pid as number, name),
    stdout: () => stdout,
    stderr: () => stderr,
    says: async (pattern) => {
      await until(
        () => `output like ${pattern} (so far: ${stdout}${stderr})`,
        () => pattern.test(stdout) || child.exitCode !== null,
      );
      if (!pattern.test(stdout))
        throw new Error(`Ended with ${child.exitCode} before it printed ${pattern}: ${stdout}${stderr}`);
    },
    ended,
  };
}
