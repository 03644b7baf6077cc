// The chassis under test: launched the way a resource manager does, each time in a process group of its own, and ended with all that it
// started. Keeps one connection to it, as a manager would. What it prints is kept for messages, and shown nowhere else.

import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { parseAddress } from '../../../core/link/mod.ts';
import { sleep } from '../../../core/mod.ts';
import { describeDuration } from '../../config/mod.ts';
import { printable } from '../kit/terminal.ts';
import { CheckFailed } from './check-result.ts';
import { PeerClosed, TestLink, type TestAnswer, type SentCall } from './test-link.ts';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';

export interface ChassisUnderTestOptions {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Where its sockets are made. */
  readonly folder: string;
  /** KATAMARI_MESH. */
  readonly mesh: string;
  readonly transport: 'unix' | 'tcp';
  /** Until it listens. */
  readonly startMs: number;
  /** For each of its answers. */
  readonly timeoutMs: number;
}

/** How its process ended, for people: `exited with status 1`. */
export interface ProcessEnd {
  readonly text: string;
  readonly status: number | null;
}

interface RunningChassisProcess {
  readonly child: ChildProcess;
  readonly address: string;
  readonly lines: string[];
  readonly ended: Promise<ProcessEnd>;
  ending: ProcessEnd | undefined;
}

export class ChassisUnderTest {
  readonly #options: ChassisUnderTestOptions;
  #running: RunningChassisProcess | undefined;
  #peer: TestLink | undefined;
  #launches = 0;
  /** Starts that came to nothing, one after the other. */
  failedStarts = 0;

  constructor(options: ChassisUnderTestOptions) {
    this.#options = options;
  }

  /** The connection to it; starts it when it was not started or was ended by us. @throws Fault when it has ended of its own */
  async peer(): Promise<TestLink> {
    if (this.#running === undefined) await this.start();
    const ending = this.#running?.ending;
    if (ending !== undefined) throw new CheckFailed('that the process goes on', `it ${ending.text}${this.lastWords()}`);
    return (this.#peer ??= await this.#connected(this.#options.timeoutMs));
  }

  /** A new process, connected. Resolves with the address that it listens at. @throws Fault */
  async start(): Promise<string> {
    await this.end();
    const running = await this.#launch();
    this.#running = running;
    try {
      this.#peer = await this.#connected(this.#options.startMs);
      this.failedStarts = 0;
      return running.address;
    } catch (error) {
      this.failedStarts++;
      throw error;
    }
  }

  /** Ends the connection and opens another one. @throws Fault when it takes none */
  async reconnect(): Promise<TestLink> {
    this.#peer?.close();
    this.#peer = undefined;
    return this.peer();
  }

  /**
   * Closes our connection and returns the address, for a client of another implementation. A chassis that serves one
   * connection at a time is then free for it. @throws Fault when the process has ended
   */
  async release(): Promise<string> {
    const peer = await this.peer();
    peer.close();
    this.#peer = undefined;
    return (this.#running as RunningChassisProcess).address;
  }

  /** Makes a call. @throws Lost, which tells of the end of the process, too */
  async ask(sent: SentCall): Promise<TestAnswer> {
    const peer = await this.peer();
    return this.told(peer.call(sent));
  }

  /** The same promise; when the connection is lost because the process ended, it says so. */
  async told<T>(answered: Promise<T>): Promise<T> {
    try {
      return await answered;
    } catch (error) {
      if (!(error instanceof PeerClosed) || !error.isClosed) throw error;
      const ending = await this.ended(EXIT_NOTICED_MS);
      throw ending === undefined ? error : new PeerClosed(`the process ${ending.text}${this.lastWords()}`, true);
    }
  }

  /** How it ended, if it does within that time. */
  async ended(withinMs: number): Promise<ProcessEnd | undefined> {
    const running = this.#running;
    if (running === undefined) return undefined;
    const timer = new AbortController();
    const late = sleep(withinMs, timer.signal).catch(() => undefined);
    await Promise.race([running.ended, late]);
    timer.abort();
    return running.ending;
  }

  /** Whether a process of its group is left, for example one that a wrapping shell has left behind. */
  hasLeftovers(): boolean {
    return this.#running !== undefined && groupOf(this.#running.child.pid).length > 0;
  }

  terminate(): void {
    const pid = this.#running?.child.pid;
    if (pid !== undefined) signal('SIGTERM', pid);
  }

  /** Ends its standard input, as the end of its manager would. */
  endInput(): void {
    this.#running?.child.stdin?.end();
  }

  /** Memory of its processes in bytes, what they use and what they have asked for; undefined where that cannot be seen. */
  memory(): { readonly used: number; readonly asked: number } | undefined {
    const sums = groupOf(this.#running?.child.pid).map(memoryOf);
    if (sums.length === 0) return undefined;
    return sums.reduce((sum, { used, asked }) => ({ used: sum.used + used, asked: sum.asked + asked }));
  }

  /** `; its last words: ...`, or nothing when it said nothing. */
  lastWords(): string {
    const lines = this.#running?.lines.slice(-LAST_WORDS) ?? [];
    return lines.length === 0 ? '' : `; its last words: ${lines.join(' | ')}`;
  }

  /** Ends it, with all that it started, without waiting for it. */
  kill(): void {
    const pid = this.#running?.child.pid;
    if (pid !== undefined) signal('SIGKILL', -pid);
  }

  /** Ends it, with all that it started. */
  async end(): Promise<void> {
    this.#peer?.close();
    this.#peer = undefined;
    const running = this.#running;
    if (running === undefined) return;
    this.kill();
    await running.ended;
    this.#running = undefined;
  }

  async #launch(): Promise<RunningChassisProcess> {
    const { transport, folder, command, cwd, env, mesh } = this.#options;
    const address =
      transport === 'unix'
        ? `unix:${path.join(folder, `${++this.#launches}.sock`)}`
        : `tcp:127.0.0.1:${await freePort()}`;
    const [program = '', ...args] = command.map((word) => fillIn(word, address));
    const child = spawn(program, args, {
      cwd,
      env: {
        ...Object.fromEntries(Object.entries(env).filter(([name]) => !/^(KATAMARI|CONSUL)_/.test(name))),
        KATAMARI_LISTEN: address,
        KATAMARI_RESOURCE: RESOURCE,
        KATAMARI_LIFELINE: 'stdin',
        KATAMARI_MESH: mesh,
      },
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin?.on('error', () => undefined);
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr]) collect(stream, lines);
    let settle: (ending: ProcessEnd) => void = () => undefined;
    const ended = new Promise<ProcessEnd>((resolve) => (settle = resolve));
    const running: RunningChassisProcess = { child, address, lines, ended, ending: undefined };
    const end = (text: string, status: number | null): void => {
      running.ending ??= { text, status };
      settle(running.ending);
    };
    child.once('error', (error) => {
      if (child.pid === undefined) end(`could not be launched: ${error.message}`, null);
    });
    child.once('exit', (code, by) => end(by === null ? `exited with status ${code}` : `was ended by ${by}`, code));
    return running;
  }

  /** Tries until something listens there. */
  async #connected(withinMs: number): Promise<TestLink> {
    const running = this.#running as RunningChassisProcess;
    const endMs = performance.now() + withinMs;
    for (;;) {
      const socket = await connected(running.address);
      if (socket !== undefined) return new TestLink(socket, this.#options.timeoutMs);
      const expected = `that it takes a connection at KATAMARI_LISTEN (${running.address}) within ${describeDuration(withinMs)}`;
      if (running.ending !== undefined)
        throw new CheckFailed(
          expected,
          `the process ${running.ending.text}${this.lastWords()}`,
          'look at what it printed; run it by hand with KATAMARI_LISTEN set',
        );
      if (performance.now() > endMs)
        throw new CheckFailed(expected, `nothing listens there; the process runs${this.lastWords()}`, LISTEN_ADVICE);
      await sleep(CONNECT_EVERY_MS);
    }
  }
}

function connected(address: string): Promise<Socket | undefined> {
  const socket = connect(parseAddress(address));
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

/** The words that a deployment may have in its command, too. */
function fillIn(word: string, address: string): string {
  const [, host = '', port = ''] = /^tcp:(.*):(\d+)$/.exec(address) ?? [];
  return word
    .replaceAll('{listen}', address)
    .replaceAll('{path}', address.startsWith('unix:') ? address.slice(5) : '')
    .replaceAll('{host}', host)
    .replaceAll('{port}', port);
}

/** A port of this machine that nobody had a moment ago. */
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
    lines.splice(0, lines.length - LAST_WORDS);
  });
  stream?.on('error', () => undefined);
}

function signal(name: 'SIGTERM' | 'SIGKILL', target: number): void {
  try {
    process.kill(target, name);
  } catch {
    // It has ended already.
  }
}

/** Processes of a group that live; none where there is no /proc. */
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

export const LISTEN_ADVICE =
  'read KATAMARI_LISTEN (unix:PATH or tcp:HOST:PORT), listen there before anything that takes long, and go on taking connections';
/** KATAMARI_RESOURCE. */
const RESOURCE = 'Conform@0.0.0/1';
const CONNECT_EVERY_MS = 10;
/** A process that dies closes its connections a moment before its end is known. */
const EXIT_NOTICED_MS = 500;
const LAST_WORDS = 4;
const LINE_CHARS_MAX = 4_096;
