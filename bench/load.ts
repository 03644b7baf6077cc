// Puts load on one target and returns throughput, latencies and errors. The load comes from separate programs:
// bench/load/load.cc for Thrift and NATS, wrk for HTTP. Throughput counts only correct replies. A wrong or missing
// reply fails the run unless the work allows it.

import path from 'node:path';
import { BENCH_FILES, framedEcho, httpEcho, plainEcho } from './echo.ts';
import { cpuMs, processTree, run } from './programs.ts';

/** A contender that answers the echo. */
export interface Target {
  /** Protocol of the load. */
  readonly protocol: 'framed' | 'nats' | 'json-rpc' | 'plain http';
  /** HOST:PORT, or a URL for HTTP. */
  readonly addresses: readonly string[];
  /** Method to call over JSON-RPC. */
  readonly method?: string;
  /** Processes that do the work; their descendants count, too. */
  readonly pids: readonly number[];
  close(): Promise<void>;
}

export interface LoadOptions {
  readonly connections: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly warmUp: number;
  /** Calls per second of an open loop, for `framed` only; a closed loop without it. */
  readonly rate?: number;
  readonly deadlineMs?: number;
  /** Counts errors as a result. Without it, an error fails the run. */
  readonly mayFail?: boolean;
}

export interface Measured {
  /** Correct replies per second. */
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** CPU time of the target's processes per call, in us. */
  readonly cpuUs: number;
  /** Share of a core that the load generator used; NaN if unknown. */
  readonly generatorCpu: number;
  /** Open loop: calls that were due, and how they ended. */
  readonly due: number;
  readonly right: number;
  readonly late: number;
  readonly refused: number;
  readonly lost: number;
}

export const LOAD: string = path.join(BENCH_FILES, 'load');

/** @throws Error with the first wrong reply, unless `mayFail` is set */
export async function drive(target: Target, options: LoadOptions): Promise<Measured> {
  const pids = target.pids.flatMap(processTree);
  const before = cpuMs(pids);
  const isHttp = target.protocol === 'json-rpc' || target.protocol === 'plain http';
  const measured = isHttp ? await byWrk(target, options) : await byLoad(target, options);
  // wrk accepts only whole seconds.
  const warmUp = isHttp ? Math.ceil(options.warmUp) : options.warmUp;
  const calls = measured.perSecond * (options.seconds + warmUp);
  return { ...measured, cpuUs: ((cpuMs(pids) - before) * 1000) / Math.max(1, calls) };
}

type WithoutCpu = Omit<Measured, 'cpuUs'>;

interface LoadReport {
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

async function byLoad({ protocol, addresses }: Target, options: LoadOptions): Promise<WithoutCpu> {
  const { connections, bytes, seconds, warmUp, rate, deadlineMs, mayFail = false } = options;
  const { request, reply } = protocol === 'nats' ? plainEcho(bytes) : framedEcho(bytes);
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
  const report = JSON.parse(await run([LOAD, protocol, ...args], (seconds + warmUp + 30) * 1000)) as LoadReport;
  if (!mayFail && (report.right !== report.answered || report.right === 0)) {
    throw new Error(
      `${report.answered - report.right} of ${report.answered} replies were wrong; the first: ${report.firstError}`,
    );
  }
  return {
    perSecond: report.right / seconds,
    p50Us: report.p50Us,
    p99Us: report.p99Us,
    p999Us: report.p999Us,
    generatorCpu: report.cpuSeconds / (seconds + warmUp),
    due: report.due,
    right: report.right,
    late: report.late,
    refused: report.exceptions + report.wrong,
    lost: report.lost,
  };
}

interface WrkReport {
  readonly requests: number;
  readonly us: number;
  readonly errors: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
}

async function byWrk({ protocol, addresses, method = 'echo' }: Target, options: LoadOptions): Promise<WithoutCpu> {
  const { connections, bytes, seconds, warmUp } = options;
  const script = httpEcho(protocol === 'json-rpc' ? 'json-rpc' : 'plain', method, bytes);
  const wrk = async (time: number): Promise<WrkReport> => {
    const line = ['wrk', '-t1', `-c${connections}`, `-d${time}s`, '-s', script, addresses[0] ?? ''];
    const json = /^RESULT (.*)$/m.exec(await run(line, (time + 30) * 1000))?.[1];
    return JSON.parse(json ?? '{}') as WrkReport;
  };
  if (warmUp > 0) await wrk(Math.ceil(warmUp));
  const report = await wrk(seconds);
  if (report.errors > 0) throw new Error(`${report.errors} of ${report.requests} HTTP requests failed`);
  const { p50Us, p99Us, p999Us } = report;
  const right = report.requests;
  const perSecond = right / (report.us / 1e6);
  return { perSecond, p50Us, p99Us, p999Us, generatorCpu: Number.NaN, due: 0, right, late: 0, refused: 0, lost: 0 };
}
