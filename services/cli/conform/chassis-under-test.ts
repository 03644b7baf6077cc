// Starts the chassis under test as a resource manager does: each time in a new process group, so that stopping it
// also kills its child processes. Holds one connection to it, like a resource manager. Keeps the last lines of its
// output for error messages and shows them nowhere else.

import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { parseLinkAddress } from '../../../core/link/mod.ts';
import { sleep, describeDuration } from '../../../core/mod.ts';
import { fillPlaceholders } from '../../mesh/mod.ts';
import { printable } from '../kit/terminal.ts';
import { CheckFailed } from './check-result.ts';
import { PeerClosed, TestLink, type TestReply, type SentCall } from './test-link.ts';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';

export interface ChassisUnderTestOptions {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Folder for its Unix sockets. */
  readonly folder: string;
  /** Value of KATAMARI_MESH. */
  readonly mesh: string;
  readonly transport: 'unix' | 'tcp';
  /** Timeout until it listens, in ms. */
  readonly startMs: number;
  /** Timeout of each reply, in ms. */
  readonly timeoutMs: number;
}

/** How the process exited; `text` completes "the process": `exited with status 1`. */
export interface ProcessExit {
  readonly text: string;
  readonly status: number | null;
}

interface RunningChassisProcess {
  readonly child: ChildProcess;
  readonly address: string;
  readonly lines: string[];
  readonly exited: Promise<ProcessExit>;
  exit: ProcessExit | undefined;
}

export class ChassisUnderTest {
  readonly #options: ChassisUnderTestOptions;
  #running: RunningChassisProcess | undefined;
  #link: TestLink | undefined;
  #launches = 0;
  /** Consecutive starts that failed. */
  failedStarts = 0;

  constructor(options: ChassisUnderTestOptions) {
    this.#options = options;
  }

  /**
   * Returns the connection. Starts the process if it was not started or was stopped.
   * @throws CheckFailed if it exited by itself
   */
  async link(): Promise<TestLink> {
    if (this.#running === undefined) await this.start();
    const exit = this.#running?.exit;
    if (exit !== undefined) throw new CheckFailed('a running process', `it ${exit.text}${this.lastOutput()}`);
    return (this.#link ??= await this.#connected(this.#options.timeoutMs));
  }

  /**
   * Starts a new process, connects to it and returns its address.
   * @param more further environment variables
   * @throws CheckFailed
   */
  async start(more: Readonly<Record<string, string>> = {}): Promise<string> {
    await this.stop();
    const running = await this.#launch(more);
    this.#running = running;
    try {
      this.#link = await this.#connected(this.#options.startMs);
      this.failedStarts = 0;
      return running.address;
    } catch (error) {
      this.failedStarts++;
      throw error;
    }
  }

  /** Closes the connection and opens a new one. @throws CheckFailed if it accepts none */
  async reconnect(): Promise<TestLink> {
    this.#link?.close();
    this.#link = undefined;
    return this.link();
  }

  /**
   * Closes our connection and returns the address, for a client of another implementation. A chassis that serves
   * one connection at a time can then accept it. @throws CheckFailed if the process exited
   */
  async release(): Promise<string> {
    const link = await this.link();
    link.close();
    this.#link = undefined;
    return (this.#running as RunningChassisProcess).address;
  }

  /** Sends a call. Rejects with PeerClosed, which also says how the process exited. */
  async call(sent: SentCall): Promise<TestReply> {
    const link = await this.link();
    return this.withExitReason(link.call(sent));
  }

  /** Awaits a reply. If the connection closed because the process exited, the error says how it exited. */
  async withExitReason<T>(replied: Promise<T>): Promise<T> {
    try {
      return await replied;
    } catch (error) {
      if (!(error instanceof PeerClosed) || !error.isClosed) throw error;
      const exit = await this.waitForExit(EXIT_DELAY_MS);
      throw exit === undefined ? error : new PeerClosed(`the process ${exit.text}${this.lastOutput()}`, true);
    }
  }

  /** Waits until the process exits or the time is over; returns undefined if it still runs. */
  async waitForExit(withinMs: number): Promise<ProcessExit | undefined> {
    const running = this.#running;
    if (running === undefined) return undefined;
    const timer = new AbortController();
    const late = sleep(withinMs, timer.signal).catch(() => undefined);
    await Promise.race([running.exited, late]);
    timer.abort();
    return running.exit;
  }

  /** Whether a process of its group still runs, for example one that a wrapping shell left behind. */
  hasRemainingProcesses(): boolean {
    return this.#running !== undefined && groupOf(this.#running.child.pid).length > 0;
  }

  terminate(): void {
    const pid = this.#running?.child.pid;
    if (pid !== undefined) signal('SIGTERM', pid);
  }

  /** Closes its standard input, as the exit of the resource manager would. */
  endInput(): void {
    this.#running?.child.stdin?.end();
  }

  /** Resident and requested memory of its processes, in bytes; undefined where there is no /proc. */
  memory(): { readonly used: number; readonly asked: number } | undefined {
    const sums = groupOf(this.#running?.child.pid).map(memoryOf);
    if (sums.length === 0) return undefined;
    return sums.reduce((sum, { used, asked }) => ({ used: sum.used + used, asked: sum.asked + asked }));
  }

  /**
   * Files, sockets and pipes that its processes have open, and files that they have mapped, by path or by what Linux
   * calls them; undefined where there is no /proc.
   */
  files(): readonly string[] | undefined {
    const group = groupOf(this.#running?.child.pid);
    return group.length === 0 ? undefined : group.flatMap(filesOf);
  }

  /** `; its last output: ...`, or '' if it printed nothing. */
  lastOutput(): string {
    const lines = this.#running?.lines.slice(-LAST_LINES) ?? [];
    return lines.length === 0 ? '' : `; its last output: ${lines.join(' | ')}`;
  }

  /** Kills its process group and does not wait. */
  kill(): void {
    const pid = this.#running?.child.pid;
    if (pid !== undefined) signal('SIGKILL', -pid);
  }

  /** Kills its process group and waits until the process exited. */
  async stop(): Promise<void> {
    this.#link?.close();
    this.#link = undefined;
    const running = this.#running;
    if (running === undefined) return;
    this.kill();
    await running.exited;
    this.#running = undefined;
  }

  async #launch(more: Readonly<Record<string, string>>): Promise<RunningChassisProcess> {
    const { transport, folder, command, cwd, env, mesh } = this.#options;
    const address =
      transport === 'unix'
        ? `unix:${path.join(folder, `${++this.#launches}.sock`)}`
        : `tcp:127.0.0.1:${await freePort()}`;
    const [program = '', ...args] = command.map((word) => fillPlaceholders(word, address));
    const child = spawn(program, args, {
      cwd,
      env: {
        ...Object.fromEntries(Object.entries(env).filter(([name]) => !/^(KATAMARI|CONSUL)_/.test(name))),
        KATAMARI_LISTEN: address,
        KATAMARI_RESOURCE: RESOURCE,
        KATAMARI_LIFELINE: 'stdin',
        KATAMARI_MESH: mesh,
        ...more,
      },
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin?.on('error', () => undefined);
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr]) collect(stream, lines);
    let settle: (exit: ProcessExit) => void = () => undefined;
    const exited = new Promise<ProcessExit>((resolve) => (settle = resolve));
    const running: RunningChassisProcess = { child, address, lines, exited, exit: undefined };
    const end = (text: string, status: number | null): void => {
      running.exit ??= { text, status };
      settle(running.exit);
    };
    child.once('error', (error) => {
      if (child.pid === undefined) end(`could not be started: ${error.message}`, null);
    });
    child.once('exit', (code, by) => end(by === null ? `exited with status ${code}` : `was killed by ${by}`, code));
    return running;
  }

  /** Retries until the process accepts a connection. */
  async #connected(withinMs: number): Promise<TestLink> {
    const running = this.#running as RunningChassisProcess;
    const endMs = performance.now() + withinMs;
    for (;;) {
      const socket = await connected(running.address);
      if (socket !== undefined) return new TestLink(socket, this.#options.timeoutMs);
      const expected = `a connection accepted at KATAMARI_LISTEN (${running.address}) within ${describeDuration(withinMs)}`;
      if (running.exit !== undefined)
        throw new CheckFailed(
          expected,
          `the process ${running.exit.text}${this.lastOutput()}`,
          'read its output; run it by hand with KATAMARI_LISTEN set',
        );
      if (performance.now() > endMs)
        throw new CheckFailed(
          expected,
          `nothing listens there, but the process runs${this.lastOutput()}`,
          LISTEN_ADVICE,
        );
      await sleep(CONNECT_EVERY_MS);
    }
  }
}

function connected(address: string): Promise<Socket | undefined> {
  const socket = connect(parseLinkAddress(address));
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

/** Returns a TCP port that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function collect(stream: NodeJS.ReadableStream | null, lines: string[]): void {
  let rest = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (part: string) => {
    const parts = (rest + part).slice(-LINE_CHARS_MAX).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts.map((line) => printable(line).trim()).filter((line) => line !== ''));
    lines.splice(0, lines.length - LAST_LINES);
  });
  stream?.on('error', () => undefined);
}

function signal(name: 'SIGTERM' | 'SIGKILL', target: number): void {
  try {
    process.kill(target, name);
  } catch {
    // The process has already exited.
  }
}

/** Returns the running processes of a group; none where there is no /proc. */
function groupOf(leader: number | undefined): number[] {
  if (leader === undefined) return [];
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => isOfGroup(pid, leader));
  } catch {
    return [];
  }
}

function isOfGroup(pid: number, group: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, , ofGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(ofGroup) === group && state !== 'Z';
  } catch {
    return false;
  }
}

function memoryOf(pid: number): { used: number; asked: number } {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const bytes = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
    return { used: bytes('VmRSS'), asked: bytes('VmData') };
  } catch {
    return { used: 0, asked: 0 };
  }
}

/** A file that was deleted meanwhile is a file too. */
function filesOf(pid: number): string[] {
  const plain = (name: string): string => name.replace(/ \(deleted\)$/, '');
  try {
    const open = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [plain(readlinkSync(`/proc/${pid}/fd/${fd}`))];
      } catch {
        // It was closed meanwhile.
        return [];
      }
    });
    const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').matchAll(/ (\/.*)$/gm);
    return [...open, ...new Set([...maps].map(([, file = '']) => plain(file)))];
  } catch {
    return [];
  }
}

export const LISTEN_ADVICE =
  'read KATAMARI_LISTEN (unix:PATH or tcp:HOST:PORT), listen there before slow initialization, and keep accepting connections';
/** Value of KATAMARI_RESOURCE. */
const RESOURCE = 'Conform@0.0.0/1';
const CONNECT_EVERY_MS = 10;
/** A process that crashes closes its connections shortly before the exit event arrives. */
const EXIT_DELAY_MS = 500;
const LAST_LINES = 4;
const LINE_CHARS_MAX = 4_096;
