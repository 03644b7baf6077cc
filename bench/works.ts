// Defines what is measured and the goals: the grid of throughputs, and the rows that need a setup of their own. Each
// row is a ratio of two results that were measured in the same run, in alternating rounds.

import path from 'node:path';
import { connect, type Socket } from 'node:net';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import * as contenders from './contenders.ts';
import { startCrowd } from './crowd.ts';
import { ECHO_IDL } from './echo.ts';
import { drive, type LoadOptions, type Measured, type Target } from './load.ts';
import { commandOf, cpuMs, processTree, rssBytes, run } from './programs.ts';
import { median } from './figures.ts';
import { searches } from './searches.ts';

export interface Effort {
  readonly rounds: number;
  readonly seconds: number;
  readonly warmUp: number;
  readonly runtime: contenders.Runtime;
  readonly onProgress: (line: string) => void;
}

/** One contender at one setting, with one result per round. */
export interface GridCell {
  readonly contender: string;
  readonly connections: number;
  readonly bytes: number;
  readonly rounds: readonly Measured[];
}

export interface Row {
  readonly work: string;
  /** Goal: the least `ours / theirs`, or the most if `isAtMost` is set. */
  readonly bound: number;
  readonly isAtMost?: boolean;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  readonly unit: string;
  /** Replaces the ratio of the medians. */
  readonly ratio?: number;
  readonly note?: string;
}

export interface Idle {
  readonly rssMiB: number;
  readonly cpuShare: number;
  readonly connections: number;
  readonly rssMoreMiB: number;
}

export const SETTINGS: readonly { readonly connections: number; readonly bytes: number }[] = [
  { connections: 64, bytes: 16 },
  { connections: 64, bytes: 1024 },
  { connections: 8, bytes: 16 },
  { connections: 8, bytes: 1024 },
];

/** Returns the contenders of the grid, by name. */
export function gridOf(runtime: contenders.Runtime): Readonly<Record<string, contenders.Starter>> {
  return {
    'Apache Thrift server, direct': contenders.thriftNode,
    'NATS, queue group of four': contenders.nats,
    'Katamari, Thrift, one process': () => contenders.katamari({ front: 'framed', runtime }),
    'Katamari, Thrift, separate processes': () =>
      contenders.katamari({ front: 'framed', processes: 'separate', runtime }),
    'jayson over HTTP, direct': contenders.jaysonHttp,
    'Moleculer, HTTP gateway to a service': contenders.moleculerGateway,
    'HAProxy before four HTTP workers': contenders.haproxy,
    'Katamari, JSON-RPC, one process': () => contenders.katamari({ front: 'json-rpc', runtime }),
    'Katamari, JSON-RPC, separate processes': () =>
      contenders.katamari({ front: 'json-rpc', processes: 'separate', runtime }),
  };
}

export async function measureGrid(
  effort: Effort,
  isWanted: (contender: string) => boolean,
  settings: typeof SETTINGS,
): Promise<GridCell[]> {
  const { rounds, seconds, runtime, onProgress } = effort;
  const running: { readonly contender: string; readonly target: Target }[] = [];
  const cells = new Map<string, { connections: number; bytes: number; contender: string; rounds: Measured[] }>();
  try {
    for (const [contender, start] of Object.entries(gridOf(runtime)).filter(([name]) => isWanted(name))) {
      onProgress(`starting and warming up: ${contender}`);
      running.push({ contender, target: await start() });
      await warmed(running.at(-1)?.target as Target, effort);
    }
    for (const setting of settings) {
      for (let round = 1; round <= rounds; round++) {
        for (const { contender, target } of running) {
          const measured = await drive(target, { ...setting, seconds, warmUp: SETTLE_S });
          const key = `${contender} ${setting.connections} ${setting.bytes}`;
          const cell = cells.get(key) ?? { contender, ...setting, rounds: [] };
          cell.rounds.push(measured);
          cells.set(key, cell);
          onProgress(
            `round ${round}: ${contender}, ${setting.connections} connections, ${setting.bytes} bytes: ${Math.round(measured.perSecond)}/s`,
          );
        }
      }
    }
  } finally {
    for (const { target } of running) await target.close();
  }
  return [...cells.values()];
}

/** Returns the rows that are ratios of two cells of the grid. */
export function rowsOfGrid(cells: readonly GridCell[]): Row[] {
  const of = (contender: string): number[] =>
    cells
      .filter((cell) => cell.contender === contender && cell.connections === 64 && cell.bytes === 16)
      .flatMap((cell) => cell.rounds.map(({ perSecond }) => perSecond));
  const row = (work: string, bound: number, ours: string, theirs: string): Row => ({
    work,
    bound,
    ours: of(ours),
    theirs: of(theirs),
    unit: '/s',
  });
  const one = 'Katamari, Thrift, one process';
  return [
    row(
      'Thrift through the mesh in one process / Apache Thrift Node server called directly',
      1.5,
      one,
      'Apache Thrift server, direct',
    ),
    row(
      'Thrift through faceplate and manager as separate processes / in one process',
      0.75,
      'Katamari, Thrift, separate processes',
      one,
    ),
    row('Thrift through the mesh / NATS request-reply', 1.5, one, 'NATS, queue group of four'),
    row(
      'JSON-RPC through the mesh / HAProxy in front of Node HTTP workers',
      1.2,
      'Katamari, JSON-RPC, one process',
      'HAProxy before four HTTP workers',
    ),
    row(
      "JSON-RPC through the mesh / Moleculer's gateway to a remote service",
      3,
      'Katamari, JSON-RPC, one process',
      'Moleculer, HTTP gateway to a service',
    ),
  ].filter(({ ours, theirs }) => ours.length > 0 && theirs.length > 0);
}

/** The rows with a setup of their own, by name. */
export const SPECIAL: Readonly<Record<string, (effort: Effort) => Promise<Row | readonly Row[]>>> = {
  client: remoteCalls,
  p99: tailAtHalf,
  large: largePayloads,
  pools: manyPools,
  sticky: stickyArgument,
  metrics: withAndWithoutMetrics,
  overload: twiceTheLoad,
  frozen: oneFrozen,
  mirror: mirrorOfFaults,
  searches,
};

/** One client with one connection and 64 calls in flight, and one worker that handles many calls at once. */
async function remoteCalls({ rounds, seconds, warmUp, runtime, onProgress }: Effort): Promise<Row> {
  const call = async (name: string, ...args: readonly (string | number)[]): Promise<number> => {
    const file = path.join(REPOSITORY, 'bench', 'contenders', `${name}.mjs`);
    const line = [process.execPath, file, ...args.map(String), '64', String(seconds), String(warmUp), '16'];
    const said = await run(line, (seconds + warmUp + 30) * 1000);
    const { right } = JSON.parse(said.trim().split('\n').at(-1) ?? '') as { right: number };
    return right / seconds;
  };
  const service = await contenders.moleculerService();
  const mesh = await contenders.katamari({ front: 'framed', count: 1, concurrency: 64, runtime });
  const [ours, theirs]: [number[], number[]] = [[], []];
  try {
    for (let round = 1; round <= rounds; round++) {
      theirs.push(await call('moleculer-caller', service.ports));
      ours.push(await call('katamari-caller', mesh.addresses[0] ?? '', ECHO_IDL));
      onProgress(`round ${round}: ${Math.round(ours.at(-1) as number)} / ${Math.round(theirs.at(-1) as number)}`);
    }
  } finally {
    await mesh.close();
    await service.program.close();
  }
  const work = 'TypeScript client, one connection, 64 calls in flight, one chassis / Moleculer remote call';
  return { work, bound: 1.3, ours, theirs, unit: '/s' };
}

/** Open loop at half of the maximum rate of the mesh. */
async function tailAtHalf(effort: Effort): Promise<Row> {
  const mesh = await contenders.katamari({ front: 'framed', runtime: effort.runtime });
  const rates: number[] = [];
  const pair = await sideBySide(effort, mesh, await contenders.chassisAlone(), {
    ours: async () => {
      // The speed of a shared machine changes, so measure the maximum rate in each round.
      const { perSecond } = await drive(mesh, { ...loadOf(effort), warmUp: SETTLE_S });
      rates.push(perSecond / 2);
      return (await drive(mesh, openLoop(effort, perSecond / 2))).p99Us;
    },
    theirs: async (direct) => (await drive(direct, openLoop(effort, rates.at(-1) as number))).p99Us,
  });
  const work =
    'p99 through the mesh at half of its maximum rate (open loop) / p99 calling the chassis directly at that rate';
  return { work, bound: 3, isAtMost: true, ...pair, unit: ' us', note: `${Math.round(median(rates))} calls/s` };
}

async function largePayloads(effort: Effort): Promise<Row> {
  const options = { ...loadOf(effort), connections: 8, bytes: 2 ** 20 };
  const mesh = await contenders.katamari({ front: 'framed', runtime: effort.runtime });
  const pair = await sideBySide(effort, mesh, await contenders.chassisAlone(), throughput(options));
  return { work: '1 MiB payloads through the mesh / calling the chassis directly', bound: 0.6, ...pair, unit: '/s' };
}

/**
 * A Consul with 1,000 pools on 10 managers, and routes for 10,000 services, in addition to the one pool that is
 * called.
 */
async function manyPools(effort: Effort): Promise<Row> {
  await using crowd = await startCrowd(1_000);
  await using alone = await startCrowd(0);
  const start = (consul: string, routes: number): Promise<Target> => {
    const settings = {
      consul: { address: consul },
      routes: Object.fromEntries(
        Array.from({ length: routes }, (_, i) => [`Crowd${i}`, { weights: { '1.0.0': 50, '2.0.0': 50 } }]),
      ),
    };
    return contenders.katamari({ front: 'framed', runtime: effort.runtime, settings });
  };
  const mesh = await start(crowd.consul, 10_000);
  const pair = await sideBySide(effort, mesh, await start(alone.consul, 0), throughput(loadOf(effort)));
  const work = 'throughput with 1,000 pools and 10,000 routes known / with one';
  return { work, bound: 0.95, ...pair, unit: '/s' };
}

/**
 * CPU time of all processes per call, with a route that finds the sticky key in the argument and with one that does
 * not. Nearly all calls go to version 1.0.0 in both, because the load repeats one call.
 */
async function stickyArgument(effort: Effort): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const [front, protocol] of [
    ['framed', 'Thrift'],
    ['json-rpc', 'JSON-RPC'],
  ] as const) {
    const start = (sticky: object): Promise<Target> => {
      const routes = { Echo: { weights: { '1.0.0': 1_000_000, '2.0.0': 1 }, ...sticky } };
      return contenders.katamari({ front, others: ['2.0.0'], runtime: effort.runtime, settings: { routes } });
    };
    const measure = async (target: Target): Promise<number> =>
      (await drive(target, { ...loadOf(effort), warmUp: SETTLE_S })).cpuUs;
    const pair = await sideBySide(effort, await start({ sticky: 'args.value' }), await start({}), {
      ours: measure,
      theirs: measure,
    });
    const work = `CPU time per call over ${protocol} with a sticky argument / without`;
    rows.push({ work, bound: 1.03, isAtMost: true, ...pair, unit: ' us' });
  }
  return rows;
}

async function withAndWithoutMetrics(effort: Effort): Promise<Row> {
  const without = path.join(REPOSITORY, 'dist', 'bench', 'without-metrics.js');
  const mesh = await contenders.katamari({ front: 'framed' });
  const bare = await contenders.katamari({ front: 'framed', runtimeFlags: ['--import', without] });
  const scraper = setInterval(() => {
    // The last request may still be in flight when the mesh ends.
    fetch(`${mesh.statsUrl}/metrics`)
      .then((answer) => answer.text())
      .catch(() => undefined);
  }, 1000);
  try {
    const pair = await sideBySide(effort, mesh, bare, throughput(loadOf(effort)));
    const work = 'throughput with metrics on, scraped every second / with metrics off';
    return { work, bound: 0.93, ...pair, unit: '/s' };
  } finally {
    clearInterval(scraper);
  }
}

/**
 * The mesh has a global timeout of 1 s, and later replies do not count. The maximum rate is measured before and after
 * the overload, and the mean of both is the reference, so that a machine that gets slower or faster meanwhile does
 * not distort the ratio.
 */
async function twiceTheLoad(effort: Effort): Promise<Row> {
  const { runtime, rounds, onProgress } = effort;
  const mesh = await contenders.katamari({ front: 'framed', runtime, settings: { timeout: '1s' } });
  const maximum = async (): Promise<number> => (await drive(mesh, { ...loadOf(effort), warmUp: SETTLE_S })).perSecond;
  const [ours, theirs]: [number[], number[]] = [[], []];
  try {
    await warmed(mesh, effort);
    for (let round = 1; round <= rounds; round++) {
      const before = await maximum();
      ours.push((await drive(mesh, openLoop(effort, 2 * before))).perSecond);
      theirs.push((before + (await maximum())) / 2);
      onProgress(`round ${round}: ${Math.round(ours.at(-1) as number)} / ${Math.round(theirs.at(-1) as number)}`);
    }
  } finally {
    await mesh.close();
  }
  const work = 'goodput with twice the load it can carry (deadline 1 s) / goodput at its maximum';
  return { work, bound: 0.95, ours, theirs, unit: '/s' };
}

/** Freezes one of ten chassis during the load. The call that it is handling does not count. */
async function oneFrozen(effort: Effort): Promise<Row> {
  const { runtime, rounds } = effort;
  const [due, inTime, rates]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    const mesh = await contenders.katamari({ front: 'framed', count: 10, runtime, settings: { timeout: '1s' } });
    try {
      await warmed(mesh, effort);
      const rate = 0.7 * (await drive(mesh, { ...loadOf(effort), warmUp: SETTLE_S })).perSecond;
      const seconds = Math.max(4, effort.seconds);
      const chassis = processTree(mesh.pids[0] ?? 0).find((pid) => isEchoChassis(pid)) ?? 0;
      const freeze = setTimeout(() => process.kill(chassis, 'SIGSTOP'), 1_000);
      const measured = await drive(mesh, { ...openLoop(effort, rate), seconds });
      clearTimeout(freeze);
      rates.push(rate);
      due.push(measured.due - INSIDE_FROZEN);
      inTime.push(Math.min(measured.right, measured.due - INSIDE_FROZEN));
    } finally {
      await mesh.close();
    }
  }
  const ratio = inTime.reduce((sum, one) => sum + one, 0) / due.reduce((sum, one) => sum + one, 0);
  const work = 'share of calls answered in time with one of ten chassis frozen, at 70 % load, non-frozen calls';
  const note = `${Math.round(median(rates))} calls/s`;
  return { work, bound: 0.999, ours: inTime, theirs: due, unit: ' calls', ratio, note };
}

/**
 * A mirror copies all calls to a version that is slow, crashes or hangs. The live calls must not notice. Each of them
 * takes a few milliseconds in its copy, so that the copies are busy and the processors are not: else the load would
 * measure its own generator.
 */
async function mirrorOfFaults(effort: Effort): Promise<Row[]> {
  const rows: Row[] = [];
  for (const fault of ['slow', 'crash', 'hang'] as const) {
    const start = (mirror: object): Promise<Target> => {
      const settings = { timeout: '1s', routes: { Echo: { weights: { '1.0.0': 1 }, ...mirror } } };
      return contenders.katamari({ front: 'framed', runtime: effort.runtime, fault, settings, workMs: 5 });
    };
    const failed = { ours: 0, theirs: 0 };
    const [mirrored, plain] = [await start({ mirror: { to: '2.0.0' } }), await start({})];
    let rate = 0;
    const p99At = async (target: Target, whose: keyof typeof failed): Promise<number> => {
      rate ||= 0.8 * (await drive(plain, { ...loadOf(effort), warmUp: SETTLE_S })).perSecond;
      const { due, right, late, p99Us } = await drive(target, openLoop(effort, rate));
      failed[whose] += due - right - late;
      return p99Us;
    };
    const pair = await sideBySide(effort, mirrored, plain, {
      ours: (mesh) => p99At(mesh, 'ours'),
      theirs: (mesh) => p99At(mesh, 'theirs'),
    });
    const note = `${Math.round(rate)} calls/s, ${failed.ours} failed / ${failed.theirs} without a mirror`;
    const work = `p99 at 80 % load with all calls mirrored to a version that is to ${fault} / without a mirror`;
    rows.push({ work, bound: 1.05, isAtMost: true, ...pair, unit: ' us', note });
  }
  return rows;
}

/** Measures an idle mesh in one process, after it was idle for `seconds` already. */
export async function idleFigures(runtime: contenders.Runtime, seconds: number, connections: number): Promise<Idle> {
  const mesh = await contenders.katamari({ front: 'framed', runtime });
  try {
    return await idleFiguresOf(mesh, seconds, connections);
  } finally {
    await mesh.close();
  }
}

async function idleFiguresOf(mesh: Target, seconds: number, connections: number): Promise<Idle> {
  const [pid = 0] = mesh.pids;
  // The JavaScript engine collects garbage once, about ten seconds after a process becomes idle.
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const before = cpuMs([pid]);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const cpuShare = (cpuMs([pid]) - before) / (seconds * 1000);
  const rss = rssBytes(pid);
  const [host = '', port = ''] = (mesh.addresses[0] ?? '').split(':');
  const sockets: Socket[] = [];
  for (let i = 0; i < connections; i++) {
    const socket = connect({ host, port: Number(port) });
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    sockets.push(socket);
  }
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const more = rssBytes(pid) - rss;
  for (const socket of sockets) socket.destroy();
  return { rssMiB: rss / MIB, cpuShare, connections, rssMoreMiB: more / MIB };
}

/** Warms up JIT compilers with a closed loop, which adapts to the speed of the target. */
async function warmed(target: Target, { warmUp }: Effort): Promise<void> {
  await drive(target, { connections: 64, bytes: 16, seconds: Math.ceil(warmUp), warmUp: 0 });
}

interface SideBySide {
  readonly ours: (target: Target) => Promise<number>;
  readonly theirs: (target: Target) => Promise<number>;
}

/**
 * Measures two running targets in alternating rounds, then closes both. A shared machine can be twice as fast in one
 * minute as in the next, but has nearly the same speed in two adjacent measurements.
 */
async function sideBySide(
  effort: Effort,
  ourTarget: Target,
  theirTarget: Target,
  measure: SideBySide,
): Promise<{ readonly ours: readonly number[]; readonly theirs: readonly number[] }> {
  const { rounds, onProgress } = effort;
  const [ours, theirs]: [number[], number[]] = [[], []];
  try {
    for (const target of [ourTarget, theirTarget]) await warmed(target, effort);
    for (let round = 1; round <= rounds; round++) {
      ours.push(await measure.ours(ourTarget));
      theirs.push(await measure.theirs(theirTarget));
      onProgress(`round ${round}: ${Math.round(ours.at(-1) as number)} / ${Math.round(theirs.at(-1) as number)}`);
    }
    return { ours, theirs };
  } finally {
    await ourTarget.close();
    await theirTarget.close();
  }
}

function throughput(options: LoadOptions): SideBySide {
  const measure = async (target: Target): Promise<number> =>
    (await drive(target, { ...options, warmUp: SETTLE_S })).perSecond;
  return { ours: measure, theirs: measure };
}

/**
 * Returns options for calls at a fixed rate, whether or not replies arrive, with a deadline that counts late replies.
 */
function openLoop(effort: Effort, rate: number): LoadOptions {
  return { ...loadOf(effort), warmUp: SETTLE_S, rate, deadlineMs: DEADLINE_MS, mayFail: true };
}

function loadOf({ seconds, warmUp }: Effort): LoadOptions {
  return { connections: 64, bytes: 16, seconds, warmUp };
}

function isEchoChassis(pid: number): boolean {
  return commandOf(pid).includes('echo-chassis');
}

/** The timeout of the mesh, 1 s, plus a tolerance of 50 ms. */
const DEADLINE_MS = 1_050;
/** Warm-up before each measurement of a target that is already warm, in s. */
const SETTLE_S = 0.3;
/** Calls that the frozen chassis is handling. */
const INSIDE_FROZEN = 1;
const MIB = 2 ** 20;
