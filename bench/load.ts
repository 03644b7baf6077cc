// Drives one target for a while and says what came of it. Load comes from programs outside of all that is measured:
// bench/load/load.cc for Thrift and NATS, wrk for HTTP. Throughput is of right answers only; a wrong or missing one
// fails the run unless the work expects it.

import path from 'node:path';
import { BENCH_FILES, framedEcho, httpEcho, plainEcho } from './echo.ts';
import { cpuMs, familyOf, run } from './programs.ts';

/** What answers the echo, and where. */
export interface Target {
  readonly speech: 'framed' | 'nats' | 'json-rpc' | 'plain http';
  /** HOST:PORT, or a URL for HTTP. */
  readonly addresses: readonly string[];
  /** For JSON-RPC. */
  readonly method?: string;
  /** Roots of the process families that do the work. */
  readonly pids: readonly number[];
  close(): Promise<void>;
}

export interface LoadOptions {
  readonly connections: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly warmUp: number;
  /** Open loop, in calls a second; only framed. */
  readonly rate?: number;
  readonly deadlineMs?: number;
  /** Whether anything but right answers is a figure, or a reason to stop. */
  readonly mayFail?: boolean;
}

export interface Measured {
  /** Right answers a second. */
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** CPU time of the target's processes for one call, in us. */
  readonly cpuUs: number;
  /** Share of a core that the generator took. */
  readonly generatorCpu: number;
  /** Open loop: calls that were due, and what became of those without a right answer in time. */
  readonly due: number;
  readonly right: number;
  readonly late: number;
  readonly refused: number;
  readonly lost: number;
}

export const LOAD: string = path.join(BENCH_FILES, 'load');

/** @throws Error saying what was answered instead */
export async function drive(target: Target, options: LoadOptions): Promise<Measured> {
  const family = target.pids.flatMap(familyOf);
  const before = cpuMs(family);
  const isHttp = target.speech === 'json-rpc' || target.speech === 'plain http';
  const measured = isHttp ? await byWrk(target, options) : await byLoad(target, options);
  // wrk takes whole seconds.
  const warmUp = isHttp ? Math.ceil(options.warmUp) : options.warmUp;
  const calls = measured.perSecond * (options.seconds + warmUp);
  return { ...measured, cpuUs: ((cpuMs(family) - before) * 1000) / Math.max(1, calls) };
}

type WithoutCpu = Omit<Measured, 'cpuUs'>;

interface LoadSaid {
  readonly due: number;
  readonly answered: number;
  readonly right: number;
  readonly late: number;
  readonly exceptions: number;
  readonly wrong: number;
  readonly lost: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly cpuSeconds: number;
  readonly firstError: string;
}

async function byLoad({ speech, addresses }: Target, options: LoadOptions): Promise<WithoutCpu> {
  const { connections, bytes, seconds, warmUp, rate, deadlineMs, mayFail = false } = options;
  const { request, reply } = speech === 'nats' ? plainEcho(bytes) : framedEcho(bytes);
  const flags = {
    to: addresses.join(','),
    request,
    reply,
    connections,
    seconds,
    'warm-up': warmUp,
    ...(rate === undefined ? {} : { rate }),
    ...(deadlineMs === undefined ? {} : { 'deadline-ms': deadlineMs }),
  };
  const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const said = JSON.parse(await run([LOAD, speech, ...args], (seconds + warmUp + 30) * 1000)) as LoadSaid;
  if (!mayFail && (said.right !== said.answered || said.right === 0)) {
    throw new Error(`${said.answered - said.right} of ${said.answered} answers were not right: ${said.firstError}`);
  }
  return {
    perSecond: said.right / seconds,
    p50Us: said.p50Us,
    p99Us: said.p99Us,
    p999Us: said.p999Us,
    generatorCpu: said.cpuSeconds / (seconds + warmUp),
    due: said.due,
    right: said.right,
    late: said.late,
    refused: said.exceptions + said.wrong,
    lost: said.lost,
  };
}

interface WrkSaid {
  readonly requests: number;
  readonly us: number;
  readonly errors: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
}

async function byWrk({ speech, addresses, method = 'echo' }: Target, options: LoadOptions): Promise<WithoutCpu> {
  const { connections, bytes, seconds, warmUp } = options;
  const script = httpEcho(speech === 'json-rpc' ? 'json-rpc' : 'plain', method, bytes);
  const wrk = async (time: number): Promise<WrkSaid> => {
    const line = ['wrk', '-t1', `-c${connections}`, `-d${time}s`, '-s', script, addresses[0] ?? ''];
    const said = /^RESULT (.*)$/m.exec(await run(line, (time + 30) * 1000))?.[1];
    return JSON.parse(said ?? '{}') as WrkSaid;
  };
  if (warmUp > 0) await wrk(Math.ceil(warmUp));
  const said = await wrk(seconds);
  if (said.errors > 0) throw new Error(`${said.errors} of ${said.requests} HTTP requests failed`);
  const { p50Us, p99Us, p999Us } = said;
  const right = said.requests;
  const perSecond = right / (said.us / 1e6);
  return { perSecond, p50Us, p99Us, p999Us, generatorCpu: Number.NaN, due: 0, right, late: 0, refused: 0, lost: 0 };
}
