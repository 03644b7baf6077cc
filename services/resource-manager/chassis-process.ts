// One operating-system process of a chassis, the leader of its own process group. Captures its output line by line.
// Stops it in steps: SIGTERM, then SIGKILL to the whole group; draining is up to the caller. Does not talk to the
// process over its socket.

import type { Clock } from '../../core/mod.ts';
import { LineSplitter } from './line-splitter.ts';
import type { Reaper } from './reaper.ts';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';

export interface Launch {
  readonly command: readonly string[];
  /** Working directory; '' for the one of this process. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * How a process ended. `code` and `signal` as in node:child_process; `failure` is set when the process could not be
 * launched.
 */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly failure: string;
}

export interface ChassisProcessOptions extends Launch {
  readonly reaper: Reaper;
  readonly clock: Clock;
  readonly onLine: (line: string) => void;
  readonly onExit: (exit: Exit) => void;
}

export class ChassisProcess {
  readonly #options: ChassisProcessOptions;
  /** Undefined when the launch has failed at once. */
  readonly #child: ChildProcess | undefined;
  readonly #lastLines: string[] = [];
  readonly startedAtMs: number;
  readonly exited: Promise<Exit>;
  #exit: Exit | undefined;
  #killTimer: (() => void) | undefined;

  constructor(options: ChassisProcessOptions) {
    this.#options = options;
    this.startedAtMs = options.clock.nowMs();
    let failure: unknown;
    try {
      this.#child = launch(options);
      if (this.#child.pid !== undefined) options.reaper.watch(this.#child.pid);
    } catch (error) {
      // For some reasons `spawn` throws, for others it emits 'error', and runtimes differ in which.
      failure = error;
    }
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit): void => {
        if (this.#exit !== undefined) return;
        this.#exit = exit;
        this.#afterExit();
        options.onExit(exit);
        resolve(exit);
      };
      const child = this.#child;
      const fail = (error: unknown): void => end({ code: null, signal: null, failure: launchFailure(options, error) });
      // Later, as for any other end: the owner of this object does not have it yet.
      if (child === undefined) setImmediate(fail, failure);
      child?.once('error', (error) => {
        // Node emits 'error' for a failed kill too. Only a failed launch has no pid.
        if (child.pid === undefined) fail(error);
      });
      child?.once('exit', (code, signal) => end({ code, signal, failure: '' }));
    });
    this.#child?.stdin?.on('error', () => undefined);
    this.#capture();
  }

  /** Process id; 0 when the process could not be launched. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get hasExited(): boolean {
    return this.#exit !== undefined;
  }

  /** The last 50 lines of output, oldest first. */
  get lastLines(): readonly string[] {
    return this.#lastLines;
  }

  /** Sends SIGTERM, then SIGKILL to the group after `graceMs`. Later calls change nothing. Resolves with the exit. */
  stop(graceMs: number): Promise<Exit> {
    if (this.#exit === undefined && this.#killTimer === undefined) {
      this.#signal('SIGTERM', this.pid);
      this.#killTimer = this.#options.clock.after(graceMs, () => this.kill());
    }
    return this.exited;
  }

  /** Sends SIGKILL to the whole group; this also ends processes stopped by SIGSTOP. */
  kill(): void {
    this.#signal('SIGKILL', -this.pid);
  }

  /** Resident memory in bytes; 0 when it cannot be read (ended, or no /proc). */
  rssBytes(): number {
    if (this.pid === 0 || this.hasExited) return 0;
    try {
      const pages = Number(readFileSync(`/proc/${this.pid}/statm`, 'utf8').split(' ')[1]);
      return Number.isNaN(pages) ? 0 : pages * PAGE_BYTES;
    } catch {
      return 0;
    }
  }

  #capture(): void {
    for (const stream of [this.#child?.stdout, this.#child?.stderr]) {
      const splitter = new LineSplitter((line) => {
        this.#lastLines.push(line);
        if (this.#lastLines.length > LAST_LINES_MAX) this.#lastLines.shift();
        this.#options.onLine(line);
      });
      stream?.on('data', (chunk: Buffer) => splitter.push(chunk));
      stream?.on('end', () => splitter.end());
      stream?.on('error', () => undefined);
    }
  }

  /** Kills processes that the chassis started and left running. */
  #afterExit(): void {
    this.#killTimer?.();
    if (this.pid === 0) return;
    this.#signal('SIGKILL', -this.pid);
    this.#options.reaper.forget(this.pid);
  }

  #signal(signal: 'SIGTERM' | 'SIGKILL', target: number): void {
    if (this.pid === 0) return;
    try {
      process.kill(target, signal);
    } catch {
      // ESRCH: the process has ended already.
    }
  }
}

/** @throws Error of the runtime; for other reasons the returned process emits 'error' */
function launch({ command: [program = '', ...args], cwd, env }: Launch): ChildProcess {
  return spawn(program, args, {
    ...(cwd === '' ? {} : { cwd }),
    env: { ...inheritedEnv(), ...env },
    // Its own process group, so that processes that the chassis starts can be killed with it.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

/** Explains why a process could not be launched. The runtime names the program even when the directory is wrong. */
function launchFailure({ command: [program = ''], cwd, env }: Launch, error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (cwd !== '' && !isDirectory(cwd)) {
    return `its working directory ${cwd} ${existsSync(cwd) ? 'is not a directory' : 'does not exist'}; correct cwd`;
  }
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return `there is no program ${program}; correct command, or PATH`;
    case 'EACCES':
      return `${program} may not be executed: it is a directory, or not executable for this user`;
    case 'ELOOP':
      return `${program} is a symbolic link that leads back to itself`;
    case 'ENAMETOOLONG':
      return `the name of its program is too long: ${program.slice(0, 40)}... has ${program.length} characters`;
    case 'E2BIG': {
      const [name = '', value = ''] = Object.entries(env).sort(([, a], [, b]) => b.length - a.length)[0] ?? [];
      return `its command and environment are too long for the system; the longest is env.${name} with ${value.length} characters`;
    }
    case 'EAGAIN':
    case 'ENOMEM':
      return `the system has no process or memory left for it (${code})`;
    case 'EMFILE':
    case 'ENFILE':
      return `this process or the system has too many open files (${code}); raise ulimit -n`;
    default:
      return message;
  }
}

function isDirectory(folder: string): boolean {
  try {
    return statSync(folder).isDirectory();
  } catch {
    return false;
  }
}

/**
 * The environment of this process without the tokens, addresses and settings of the mesh, which a chassis must not
 * see.
 */
function inheritedEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(KATAMARI|CONSUL)_/.test(name)));
}

/** An exit as text: `exited with status 1`. */
export function describeExit(exit: Exit): string {
  if (exit.failure !== '') return `could not be launched: ${exit.failure}`;
  if (exit.signal !== null) return `was ended by ${exit.signal}`;
  return `exited with status ${exit.code}`;
}

const LAST_LINES_MAX = 50;
const PAGE_BYTES = 4096;
