// One operating-system process of a chassis, the leader of its own process group. Captures its output line by line.
// Stops it in steps: SIGTERM, then SIGKILL to the whole group; draining is up to the caller. When it has ended, the
// reaper ends what it started and left behind. Does not talk to the process over its socket.

import type { Clock } from '../../core/mod.ts';
import type { Isolation } from '../mesh/mod.ts';
import { identityEnv, identityOf, isolatedCommand } from './isolation.ts';
import { LineSplitter } from './line-splitter.ts';
import { FAMILY_VARIABLE, type Family, type Reaper } from './reaper.ts';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';

export interface Launch {
  readonly command: readonly string[];
  /** Working directory; '' for the one of this process. */
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** null: as this process runs. */
  readonly isolation: Isolation | null;
}

/**
 * How a process ended. `code` and `signal` as in node:child_process; `failure` is set when the process could not be
 * launched.
 */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly failure: string;
  /** Whether every further start would fail in the same way, until something changes (permanent-fault.ts). */
  readonly isPermanent: boolean;
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
  /** Characters of these lines. */
  #lastChars = 0;
  readonly startedAtMs: number;
  readonly exited: Promise<Exit>;
  /**
   * Resolves soon after `exited`, when all output is read and all descendants have ended, with the number of processes
   * that it had left behind.
   */
  readonly settled: Promise<number>;
  #exit: Exit | undefined;
  #killTimer: (() => void) | undefined;

  constructor(options: ChassisProcessOptions) {
    this.#options = options;
    this.startedAtMs = options.clock.nowMs();
    const { reaper } = options;
    const family = reaper.newFamily();
    let failure: unknown;
    try {
      this.#child = launch({ ...options, env: { ...options.env, [FAMILY_VARIABLE]: family.mark } });
      if (this.#child.pid !== undefined) reaper.watch(this.#child.pid, family);
    } catch (error) {
      // For some reasons `spawn` throws, for others it emits 'error', and runtimes differ in which.
      failure = error;
    }
    let left: Promise<number> = Promise.resolve(0);
    const closed = new Promise((resolve) => this.#child?.once('close', resolve) ?? resolve(undefined));
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit): void => {
        if (this.#exit !== undefined) return;
        this.#exit = exit;
        left = this.#endFamily(family);
        options.onExit(exit);
        resolve(exit);
      };
      const child = this.#child;
      const fail = (error: unknown): void => end({ code: null, signal: null, ...launchFailure(options, error) });
      // Later, as for any other end: the owner of this object does not have it yet.
      if (child === undefined) setImmediate(fail, failure);
      child?.once('error', (error) => {
        // Node emits 'error' for a failed kill too. Only a failed launch has no pid.
        if (child.pid === undefined) fail(error);
      });
      child?.once('exit', (code, signal) =>
        end({ code, signal, failure: '', isPermanent: PERMANENT_STATUSES.has(code ?? 0) }),
      );
    });
    // A descendant that the reaper cannot find may keep the output open.
    const late = (): Promise<void> => new Promise((resolve) => options.clock.after(SETTLE_MS, resolve));
    this.settled = this.exited.then(async () => {
      if (this.pid === 0) return 0;
      await Promise.race([Promise.all([left, closed]), late()]);
      return await Promise.race([left, Promise.resolve(0)]);
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
        this.#keep(line);
        this.#options.onLine(line);
      });
      stream?.on('data', (chunk: Buffer) => splitter.push(chunk));
      stream?.on('end', () => splitter.end());
      stream?.on('error', () => undefined);
    }
  }

  #keep(line: string): void {
    this.#lastLines.push(line);
    this.#lastChars += line.length;
    while (this.#lastLines.length > LAST_LINES_MAX || this.#lastChars > LAST_CHARS_MAX) {
      this.#lastChars -= this.#lastLines.shift()?.length ?? 0;
    }
  }

  /** Kills processes that the chassis started and left running. Resolves with their number, or 1 for more. */
  async #endFamily(family: Family): Promise<number> {
    this.#killTimer?.();
    if (this.pid === 0) return 0;
    const inGroup = this.#signal('SIGKILL', -this.pid) ? 1 : 0;
    return inGroup + (await this.#options.reaper.forget(this.pid, family));
  }

  /** @returns whether there was a process to get it */
  #signal(signal: 'SIGTERM' | 'SIGKILL', target: number): boolean {
    if (this.pid === 0) return false;
    try {
      process.kill(target, signal);
      return true;
    } catch {
      // ESRCH: the process has ended already.
      return false;
    }
  }
}

/** @throws Error of the runtime; for other reasons the returned process emits 'error' */
function launch({ command, cwd, env, isolation }: Launch): ChildProcess {
  const identity = isolation === null ? undefined : identityOf(isolation);
  const [program = '', ...args] = isolation === null ? command : isolatedCommand(command, isolation, identity);
  return spawn(program, args, {
    ...(cwd === '' ? {} : { cwd }),
    env: { ...inheritedEnv(), ...identityEnv(identity), ...env },
    // Its own process group, so that processes that the chassis starts can be killed with it.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

function launchFailure(launch: Launch, error: unknown): Pick<Exit, 'failure' | 'isPermanent'> {
  const { code = '' } = error as NodeJS.ErrnoException;
  return { failure: whyNotLaunched(launch, error), isPermanent: !TEMPORARY_CODES.has(code) };
}

/** Explains why a process could not be launched. The runtime names the program even when the directory is wrong. */
function whyNotLaunched({ command: [program = ''], cwd, env }: Launch, error: unknown): string {
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
 * The environment of this process without what a chassis must not see: the tokens, addresses and settings of the mesh,
 * and the credentials with which it fetches shards.
 */
function inheritedEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !PRIVATE_VARIABLE.test(name)));
}

const PRIVATE_VARIABLE =
  /^(KATAMARI_.*|CONSUL_.*|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|CONTAINER_AUTHORIZATION_TOKEN)|WEBHDFS_DELEGATION_TOKEN)$/s;

/** An exit as text: `exited with status 1`. */
export function describeExit(exit: Exit): string {
  if (exit.failure !== '') return `could not be launched: ${exit.failure}`;
  if (exit.signal !== null) return `was ended by ${exit.signal}`;
  return `exited with status ${exit.code}`;
}

/** Failures of a launch that another try may not have: the system lacks something, or a file is being written. */
const TEMPORARY_CODES: ReadonlySet<string> = new Set([
  'EAGAIN',
  'EINTR',
  'EIO',
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'ETIMEDOUT',
  'ETXTBSY',
]);
/** EX_CONFIG of sysexits.h, and the two with which shells say that a program cannot be run or is not there. */
const PERMANENT_STATUSES: ReadonlySet<number> = new Set([78, 126, 127]);
/** How long after an exit its last output and its descendants are waited for. */
const SETTLE_MS = 1_000;
const LAST_LINES_MAX = 50;
const LAST_CHARS_MAX = 65_536;
const PAGE_BYTES = 4096;
