// What is measured and how much is expected: the grid of throughputs, and the rows that need an arrangement of their own. Every figure of a row
// is a ratio of two that were taken in the same run, in alternating rounds.

import path from 'node:path';
import { connect, type Socket } from 'node:net';
import { REPOSITORY } from '../test/kit/tools.ts';
import * as contenders from './contenders.ts';
import { startCrowd } from './crowd.ts';
import { ECHO_IDL } from './echo.ts';
import { drive, type LoadOptions, type Measured, type Target } from './load.ts';
import { commandOf, cpuMs, familyOf, rssBytes, run } from './programs.ts';
import { median } from './figures.ts';

export interface Effort {
  readonly rounds: number;
  readonly seconds: number;
  readonly warmUp: number;
  readonly runtime: contenders.Runtime;
  readonly onProgress: (line: string) => void;
}

/** One contender at one setting: a figure a round. */
export interface GridCell {
  readonly contender: string;
  readonly connections: number;
  readonly bytes: number;
  readonly rounds: readonly Measured[];
}

export interface Row {
  readonly work: string;
  /** `ours / theirs` shall be at least this, or at most when smaller is better. */
  readonly bound: number;
  readonly isAtMost?: boolean;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  readonly unit: string;
  /** In place of the quotient of the medians. */
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

/** Who is in the grid. */
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
  const { rounds, seconds, warmUp, runtime, onProgress } = effort;
  const cells = new Map<string, { connections: number; bytes: number; contender: string; rounds: Measured[] }>();
  const wanted = Object.entries(gridOf(runtime)).filter(([contender]) => isWanted(contender));
  for (let round = 1; round <= rounds; round++) {
    for (const [contender, start] of wanted) {
      await using running = disposable(await start());
      for (const setting of settings) {
        const key = `${contender} ${setting.connections} ${setting.bytes}`;
        const measured = await drive(running.target, { ...setting, seconds, warmUp });
        const cell = cells.get(key) ?? { contender, ...setting, rounds: [] };
        cell.rounds.push(measured);
        cells.set(key, cell);
        onProgress(
          `round ${round}: ${contender}, ${setting.connections} connections, ${setting.bytes} bytes: ${Math.round(measured.perSecond)}/s`,
        );
      }
    }
  }
  return [...cells.values()];
}

/** Rows that are quotients of two cells. */
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

/** The rows with arrangements of their own, by name. */
export const SPECIAL: Readonly<Record<string, (effort: Effort) => Promise<Row>>> = {
  client: remoteCalls,
  p99: tailAtHalf,
  large: largePayloads,
  pools: manyPools,
  metrics: withAndWithoutMetrics,
  overload: twiceTheLoad,
  frozen: oneFrozen,
};

/** One client with one connection and 64 calls under way, and one worker that takes many calls at once. */
async function remoteCalls({ rounds, seconds, warmUp, runtime, onProgress }: Effort): Promise<Row> {
  const [ours, theirs]: [number[], number[]] = [[], []];
  const call = async (name: string, ...args: readonly (string | number)[]): Promise<number> => {
    const file = path.join(REPOSITORY, 'bench', 'contenders', `${name}.mjs`);
    const line = [process.execPath, file, ...args.map(String), '64', String(seconds), String(warmUp), '16'];
    const said = await run(line, (seconds + warmUp + 30) * 1000);
    const { right } = JSON.parse(said.trim().split('\n').at(-1) ?? '') as { right: number };
    return right / seconds;
  };
  for (let round = 0; round < rounds; round++) {
    const service = await contenders.moleculerService();
    try {
      theirs.push(await call('moleculer-caller', service.ports));
    } finally {
      await service.program.close();
    }
    await using mesh = disposable(await contenders.katamari({ front: 'framed', count: 1, concurrency: 64, runtime }));
    ours.push(await call('katamari-caller', mesh.target.addresses[0] ?? '', ECHO_IDL));
    onProgress(`round ${round + 1}: ${Math.round(ours.at(-1) as number)} / ${Math.round(theirs.at(-1) as number)}`);
  }
  const work = 'TypeScript client, one connection, 64 calls in flight, one chassis / Moleculer remote call';
  return { work, bound: 1.3, ours, theirs, unit: '/s' };
}

/** Open loop at half of what the mesh can do. */
async function tailAtHalf(effort: Effort): Promise<Row> {
  const rate = (await most(effort)) / 2;
  const options = { ...loadOf(effort), rate, mayFail: true };
  const [ours, theirs] = await alternating(
    effort,
    async () => (await driven(await contenders.katamari({ front: 'framed', runtime: effort.runtime }), options)).p99Us,
    async () => (await driven(await contenders.chassisAlone(), options)).p99Us,
  );
  const work =
    'p99 through the mesh at half of its maximum rate (open loop) / p99 calling the chassis directly at that rate';
  return { work, bound: 3, isAtMost: true, ours, theirs, unit: ' us', note: `${Math.round(rate)} calls/s` };
}

async function largePayloads(effort: Effort): Promise<Row> {
  const options = { ...loadOf(effort), connections: 8, bytes: 2 ** 20 };
  const [ours, theirs] = await alternating(
    effort,
    async () =>
      (await driven(await contenders.katamari({ front: 'framed', runtime: effort.runtime }), options)).perSecond,
    async () => (await driven(await contenders.chassisAlone(), options)).perSecond,
  );
  return {
    work: '1 MiB payloads through the mesh / calling the chassis directly',
    bound: 0.6,
    ours,
    theirs,
    unit: '/s',
  };
}

/** A Consul that lists 1,000 pools on 100 managers, and routes for 10,000 services, beside the one pool that is called. */
async function manyPools(effort: Effort): Promise<Row> {
  const throughput = async (pools: number, routes: number): Promise<number> => {
    await using crowd = await startCrowd(pools);
    const settings = {
      consul: { address: crowd.consul },
      routes: Object.fromEntries(
        Array.from({ length: routes }, (_, i) => [`Crowd${i}`, { weights: { '1.0.0': 50, '2.0.0': 50 } }]),
      ),
    };
    const target = await contenders.katamari({ front: 'framed', runtime: effort.runtime, settings });
    return (await driven(target, loadOf(effort))).perSecond;
  };
  const [ours, theirs] = await alternating(
    effort,
    () => throughput(1000, 10_000),
    () => throughput(0, 0),
  );
  return {
    work: 'throughput with 1,000 pools and 10,000 routes known / with one',
    bound: 0.95,
    ours,
    theirs,
    unit: '/s',
  };
}

async function withAndWithoutMetrics(effort: Effort): Promise<Row> {
  const without = path.join(REPOSITORY, 'dist', 'bench', 'without-metrics.js');
  const throughput = async (runtimeFlags: readonly string[], isScraped: boolean): Promise<number> => {
    const mesh = await contenders.katamari({ front: 'framed', runtimeFlags });
    const scraper = setInterval(() => {
      if (isScraped) void fetch(`${mesh.statsUrl}/metrics`).then((answer) => answer.text());
    }, 1000);
    try {
      return (await driven(mesh, loadOf(effort))).perSecond;
    } finally {
      clearInterval(scraper);
    }
  };
  const [ours, theirs] = await alternating(
    effort,
    () => throughput([], true),
    () => throughput(['--import', without], false),
  );
  const work = 'throughput with metrics on, scraped every second / with metrics off';
  return { work, bound: 0.93, ours, theirs, unit: '/s' };
}

/** The mesh has a global timeout of 1 s; what comes later than that is not counted. */
async function twiceTheLoad(effort: Effort): Promise<Row> {
  const start = (): Promise<Target> =>
    contenders.katamari({ front: 'framed', runtime: effort.runtime, settings: { timeout: '1s' } });
  const max: number[] = [];
  const [ours, theirs] = await alternating(
    effort,
    async () => {
      const rate = 2 * (max.at(-1) ?? (await most(effort)));
      // As many clients as can be waiting, each with one call: nobody sends a second before the first is answered.
      const options = { ...loadOf(effort), connections: 2_000, rate, deadlineMs: 1050, mayFail: true };
      return (await driven(await start(), options)).perSecond;
    },
    async () => {
      const { perSecond } = await driven(await start(), { ...loadOf(effort), connections: 256 });
      max.push(perSecond);
      return perSecond;
    },
  );
  const work = 'goodput with twice the load it can carry (deadline 1 s) / goodput at its maximum';
  return { work, bound: 0.95, ours, theirs, unit: '/s' };
}

/** Ten chassis, one of which is stopped in the middle. The call inside it is not counted. */
async function oneFrozen(effort: Effort): Promise<Row> {
  const settings = { timeout: '1s' };
  const start = (): Promise<Target> =>
    contenders.katamari({ front: 'framed', count: 10, runtime: effort.runtime, settings });
  const full = await driven(await start(), { ...loadOf(effort), connections: 256 });
  const rate = 0.7 * full.perSecond;
  const [due, inTime]: [number[], number[]] = [[], []];
  for (let round = 0; round < effort.rounds; round++) {
    await using running = disposable(await start());
    const [mesh = 0] = running.target.pids;
    const chassis = familyOf(mesh).find((pid) => isEchoChassis(pid)) ?? 0;
    const seconds = Math.max(4, effort.seconds);
    const freeze = setTimeout(() => process.kill(chassis, 'SIGSTOP'), (effort.warmUp + 1) * 1000);
    const options = { ...loadOf(effort), connections: 256, rate, deadlineMs: 1050, mayFail: true, seconds };
    const measured = await drive(running.target, options);
    clearTimeout(freeze);
    due.push(measured.due - INSIDE_FROZEN);
    inTime.push(Math.min(measured.right, measured.due - INSIDE_FROZEN));
  }
  const ratio = inTime.reduce((sum, one) => sum + one, 0) / due.reduce((sum, one) => sum + one, 0);
  const work = 'share of calls answered in time with one of ten chassis frozen, at 70 % load, non-frozen calls';
  return { work, bound: 0.999, ours: inTime, theirs: due, unit: ' calls', ratio, note: `${Math.round(rate)} calls/s` };
}

/** What the whole mesh in one process takes while nothing happens. */
export async function idleFigures(runtime: contenders.Runtime, seconds: number, connections: number): Promise<Idle> {
  await using running = disposable(await contenders.katamari({ front: 'framed', runtime }));
  const [pid = 0] = running.target.pids;
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const before = cpuMs([pid]);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const cpuShare = (cpuMs([pid]) - before) / (seconds * 1000);
  const rss = rssBytes(pid);
  const [host = '', port = ''] = (running.target.addresses[0] ?? '').split(':');
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

/** What the mesh can carry, closed loop. */
async function most(effort: Effort): Promise<number> {
  const target = await contenders.katamari({ front: 'framed', runtime: effort.runtime });
  return (await driven(target, loadOf(effort))).perSecond;
}

/** Drives a target and ends it. */
async function driven(target: Target, options: LoadOptions): Promise<Measured> {
  try {
    return await drive(target, options);
  } finally {
    await target.close();
  }
}

async function alternating(
  { rounds, onProgress }: Effort,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<[number[], number[]]> {
  const [first, second]: [number[], number[]] = [[], []];
  for (let round = 1; round <= rounds; round++) {
    second.push(await theirs());
    first.push(await ours());
    onProgress(`round ${round}: ${Math.round(first.at(-1) as number)} / ${Math.round(second.at(-1) as number)}`);
  }
  onProgress(`medians: ${Math.round(median(first))} / ${Math.round(median(second))}`);
  return [first, second];
}

function loadOf({ seconds, warmUp }: Effort): LoadOptions {
  return { connections: 64, bytes: 16, seconds, warmUp };
}

function isEchoChassis(pid: number): boolean {
  return commandOf(pid).includes('echo-chassis');
}

function disposable<T extends Target>(target: T): { readonly target: T; [Symbol.asyncDispose](): Promise<void> } {
  return { target, [Symbol.asyncDispose]: () => target.close() };
}

const INSIDE_FROZEN = 1;
const MIB = 2 ** 20;
