// A process of a cluster. Its output goes to a file, signals go to its pid, and it is killed at the latest when the
// tests end.

import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { isAlive } from '../mesh/mesh.ts';

export interface ProcessOptions {
  readonly cwd: string;
  /** Its complete environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Path of the file that its output is appended to. */
  readonly log: string;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export class LoggedProcess {
  readonly pid: number;
  /** Never rejects. A command that could not be run ends with code null and no signal. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #log: string;
  #end: ProcessEnd | undefined;

  constructor(line: readonly string[], { cwd, env, log }: ProcessOptions) {
    const [program = '', ...args] = line;
    this.#log = log;
    const file = openSync(log, 'a');
    // In its own process group, so that it does not get the signals of a Ctrl-C in the terminal.
    const child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', file, file] });
    closeSync(file);
    this.#child = child;
    this.pid = child.pid ?? 0;
    running.add(this);
    this.ended = new Promise((resolve) => {
      const end = (what: ProcessEnd): void => {
        running.delete(this);
        this.#end ??= what;
        resolve(this.#end);
      };
      child.once('exit', (code, signal) => end({ code, signal }));
      child.once('error', () => end({ code: null, signal: null }));
    });
  }

  get isRunning(): boolean {
    return this.#end === undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Has no effect when the process has ended. */
  signal(name: NodeJS.Signals): void {
    // Not child.kill: with it, one runtime reports every exit as caused by that signal.
    if (this.pid === 0 || !this.isRunning) return;
    try {
      process.kill(this.pid, name);
    } catch {
      // It has already ended.
    }
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** Output of this process and of earlier ones with the same file. */
  log(): string {
    return readText(this.#log);
  }

  /** For error messages. */
  lastLines(count = 8): string {
    return this.log().trimEnd().split('\n').slice(-count).join('\n');
  }
}

/** Sends SIGKILL to each process and waits until all are gone. */
export async function killAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has already ended.
    }
  }
  const endAt = performance.now() + KILLED_MS;
  while (pids.some(isAlive)) {
    if (performance.now() > endAt) throw new Error(`Still there after SIGKILL: ${pids.filter(isAlive).join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Processes to kill at the latest with this process. */
const running = new Set<LoggedProcess>();
process.once('exit', () => {
  for (const one of running) one.signal('SIGKILL');
});

const KILLED_MS = 10_000;
