// Processes of a bench run: started, waited for, their CPU time read, ended at the latest with this process.

import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface Program {
  readonly pid: number;
  close(): Promise<void>;
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** What it prints when it can be used; without one it is taken at its start. */
  readonly readyWhen?: RegExp;
}

/** @throws Error with what it printed when it ends, or says nothing for START_MS */
export async function startProgram(line: readonly string[], options: ProgramOptions = {}): Promise<Program> {
  const { readyWhen = /^ready$/m, env = {}, cwd } = options;
  const [program = '', ...args] = line;
  const child = spawn(program, args, {
    // An open standard input: a chassis ends with it.
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  await new Promise<void>((resolve, reject) => {
    let said = '';
    const fail = (why: string): void => reject(new Error(`${line.join(' ')}: ${why}\n${said.slice(-2000)}`));
    const timer = setTimeout(() => fail(`was not ready after ${START_MS} ms`), START_MS);
    const hear = (part: Buffer): void => {
      said = (said + part.toString()).slice(-SAID_CHARS_MAX);
      if (readyWhen.test(said)) resolve();
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code) => fail(`ended with ${code}`));
    child.once('exit', () => clearTimeout(timer));
    void Promise.resolve().then(() => timer.unref());
  });
  return { pid: child.pid ?? 0, close: () => end(child) };
}

/** Runs a program to its end. @returns what it printed @throws Error with what it complained of */
export function run(line: readonly string[], timeoutMs: number): Promise<string> {
  const [program = '', ...args] = line;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    let [out, complaints] = ['', ''];
    child.stdout.on('data', (part: Buffer) => (out += part.toString()));
    child.stderr.on('data', (part: Buffer) => (complaints += part.toString()));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (code === 0) resolve(out);
      else
        reject(
          new Error(`${line.join(' ')} ended with ${code ?? signal}: ${complaints.slice(-2000)}${out.slice(-500)}`),
        );
    });
  });
}

/** A process and all that descend from it. */
export function familyOf(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = statOf(Number(name));
    if (stat !== undefined) parents.set(Number(name), Number(stat[1]));
  }
  const family = [pid];
  for (const one of family) for (const [child, parent] of parents) if (parent === one) family.push(child);
  return family;
}

/** CPU time that processes have used so far, in ms. */
export function cpuMs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = statOf(pid);
    return stat === undefined ? sum : sum + (Number(stat[11]) + Number(stat[12])) * TICK_MS;
  }, 0);
}

/** Resident memory of one process, in bytes. */
export function rssBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096;
}

/** The command line of a process; '' when it has ended. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** The fields of /proc/PID/stat from the state on; undefined when it has ended. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name before may hold blanks and parentheses.
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

const START_MS = 30_000;
const END_MS = 5_000;
const SAID_CHARS_MAX = 100_000;
/** Of /proc: USER_HZ is 100 on Linux. */
const TICK_MS = 10;
