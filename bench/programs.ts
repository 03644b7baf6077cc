// Processes of a bench run: starts them, waits until they are ready, reads their CPU time and ends them. They end at
// the latest with this process.

import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface Program {
  readonly pid: number;
  close(): Promise<void>;
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Matches its output when it is ready; default: a line `ready`. */
  readonly readyWhen?: RegExp;
}

/** @throws Error with its output, if it exits or is not ready after START_MS */
export async function startProgram(line: readonly string[], options: ProgramOptions = {}): Promise<Program> {
  const { readyWhen = /^ready$/m, env = {}, cwd } = options;
  const [program = '', ...args] = line;
  const child = spawn(program, args, {
    // Keep standard input open: a chassis exits when it closes.
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  await new Promise<void>((resolve, reject) => {
    let output = '';
    const fail = (why: string): void => reject(new Error(`${line.join(' ')}: ${why}\n${output.slice(-2000)}`));
    const timer = setTimeout(() => fail(`was not ready after ${START_MS} ms`), START_MS);
    const onOutput = (part: Buffer): void => {
      output = (output + part.toString()).slice(-OUTPUT_CHARS_MAX);
      if (readyWhen.test(output)) resolve();
    };
    child.stdout.on('data', onOutput);
    child.stderr.on('data', onOutput);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`exited with ${code}`));
    child.once('exit', () => clearTimeout(timer));
    void Promise.resolve().then(() => timer.unref());
  });
  return { pid: child.pid ?? 0, close: () => end(child) };
}

/** Runs a program to its end. @returns its standard output @throws Error with its output if it fails */
export function run(line: readonly string[], timeoutMs: number): Promise<string> {
  const [program = '', ...args] = line;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    let [out, errors] = ['', ''];
    child.stdout.on('data', (part: Buffer) => (out += part.toString()));
    child.stderr.on('data', (part: Buffer) => (errors += part.toString()));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (code === 0) resolve(out);
      else
        reject(new Error(`${line.join(' ')} exited with ${code ?? signal}: ${errors.slice(-2000)}${out.slice(-500)}`));
    });
  });
}

/** Returns the ids of a process and its descendants. */
export function processTree(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = statOf(Number(name));
    if (stat !== undefined) parents.set(Number(name), Number(stat[1]));
  }
  const pids = [pid];
  for (const one of pids) for (const [child, parent] of parents) if (parent === one) pids.push(child);
  return pids;
}

/** Returns the CPU time that processes have used, in ms. */
export function cpuMs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = statOf(pid);
    return stat === undefined ? sum : sum + (Number(stat[11]) + Number(stat[12])) * TICK_MS;
  }, 0);
}

/** Returns the resident memory of a process, in bytes. */
export function rssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096;
}

/** Returns the command line of a process; '' if it has ended. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** Returns the fields of /proc/PID/stat from the state on; undefined if the process has ended. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The process name before the state may contain spaces and parentheses.
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), END_MS).unref();
  });
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const START_MS = 120_000;
const END_MS = 5_000;
const OUTPUT_CHARS_MAX = 100_000;
/** Unit of CPU times in /proc: USER_HZ is 100 on Linux. */
const TICK_MS = 10;
