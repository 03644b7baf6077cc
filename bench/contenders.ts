// Starts and stops everything that the bench measures: the alternatives, and Katamari in several setups.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePorts, startRealConsul } from '../test/kit/consul/consul.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { toolPath } from '../test/kit/tools/tools.ts';
import { BENCH_FILES, ECHO_IDL } from './echo.ts';
import type { Target } from './load.ts';
import { startProgram, type Program, type ProgramOptions } from './programs.ts';

export type Starter = () => Promise<Target>;

/** An Apache Thrift server in Node, called directly. */
export async function thriftNode(): Promise<Target> {
  const port = await freePort();
  const server = await contender('thrift-server', String(port), path.join(BENCH_FILES, 'gen-nodejs'));
  return target('framed', [`127.0.0.1:${port}`], [server]);
}

/** A jayson server over HTTP, called directly. */
export async function jaysonHttp(): Promise<Target> {
  const port = await freePort();
  return target('json-rpc', [`http://127.0.0.1:${port}/`], [await contender('jayson-server', String(port))]);
}

/** Moleculer's HTTP gateway, which calls a service in another process. */
export async function moleculerGateway(): Promise<Target> {
  const service = await moleculerService();
  const port = await freePort();
  const gateway = await contender('moleculer-gateway', service.ports, String(port));
  return target('plain http', [`http://127.0.0.1:${port}/api/echo`], [gateway, service.program]);
}

export interface MoleculerService {
  readonly ports: string;
  readonly program: Program;
}

export async function moleculerService(): Promise<MoleculerService> {
  const [service, gateway, caller] = await freePorts(3);
  const ports = `service:${service},gateway:${gateway},caller:${caller}`;
  return { ports, program: await contender('moleculer-service', ports) };
}

/** NATS with four workers in a queue group. */
export async function nats(): Promise<Target> {
  const port = await freePort();
  const server = await startProgram([toolPath('nats-server'), '-a', '127.0.0.1', '-p', String(port)], {
    readyWhen: /Server is ready/,
  });
  const workers = await copies(() => contender('nats-worker', String(port)));
  return target('nats', [`127.0.0.1:${port}`], [...workers, server]);
}

/** HAProxy with a queue in front of four workers that get one request at a time. */
export async function haproxy(): Promise<Target> {
  const [port = 0, ...workerPorts] = await freePorts(1 + COPIES);
  const workers = await Promise.all(workerPorts.map((own) => contender('http-worker', String(own))));
  const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-bench-'));
  const file = path.join(folder, 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  nbthread 2
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout queue 10s
frontend in
  bind 127.0.0.1:${port}
  default_backend workers
backend workers
  balance leastconn
  http-reuse always
${workerPorts.map((own, i) => `  server worker${i} 127.0.0.1:${own} maxconn 1`).join('\n')}
`,
  );
  const proxy = await startProgram([toolPath('haproxy'), '-W', '-f', file], {
    readyWhen: /New worker .*forked|Loading success/,
  });
  return target('json-rpc', [`http://127.0.0.1:${port}/`], [proxy, ...workers], folder);
}

export interface KatamariOptions {
  readonly front: 'framed' | 'json-rpc';
  /** Faceplate and manager in one process, or each in its own with a real Consul. */
  readonly processes?: 'one' | 'separate';
  readonly count?: number;
  /** Calls that a chassis handles at a time. */
  readonly concurrency?: number;
  readonly runtime?: Runtime;
  /** How a second version of the chassis fails; no second version without it. */
  readonly fault?: 'slow' | 'crash' | 'hang';
  /** How long each call takes in its copy, without using a processor; default 0. */
  readonly workMs?: number;
  /** Versions that have one copy each, beside 1.0.0. */
  readonly others?: readonly string[];
  /** Additional keys of katamari.yaml. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Flags for the runtime. */
  readonly runtimeFlags?: readonly string[];
}

export const RUNTIMES = ['node', 'bun', 'deno'] as const;
export type Runtime = (typeof RUNTIMES)[number];

/** Katamari with echo chassis. The chassis always run on Node, whatever the runtime of the mesh. */
export async function katamari(options: KatamariOptions): Promise<Target & { readonly statsUrl: string }> {
  const {
    front,
    processes = 'one',
    count = COPIES,
    concurrency = 1,
    runtime = 'node',
    others = [],
    settings = {},
  } = options;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-bench-'));
  const [thrift = 0, jsonRpc = 0, stats = 0, link = 0, consulPort = 0, otherStats = 0] = await freePorts(6);
  const programs: Program[] = [];
  const secret = randomBytes(24).toString('hex');
  const consul = processes === 'separate' ? await startRealConsul() : undefined;
  const ports = { thrift, jsonRpc, stats, link, consul: consulPort };
  const versions = ['1.0.0', ...others].map((version) => ({
    service: 'Echo',
    version,
    command: [...echoChassis(concurrency), version],
    count: version === '1.0.0' ? count : 1,
    queue: { max: 4_000 },
    ...(options.workMs === undefined ? {} : { env: { ECHO_MS: String(options.workMs) } }),
  }));
  const deployments = options.fault === undefined ? versions : [...versions, faultyEcho(options.fault)];
  const start = async (role: 'up' | 'manager' | 'faceplate', own: object): Promise<Program> => {
    const file = path.join(folder, `${role}.yaml`);
    // Processes of one mesh prove to each other that they know its secret.
    const shared = consul === undefined ? {} : { consul: { address: `http://${consul.address}` }, link: { secret } };
    const dataDir = path.join(folder, role);
    writeFileSync(file, JSON.stringify({ mesh: 'bench', name: role, dataDir, ports, ...shared, ...settings, ...own }));
    return await startProgram(
      [...runtimeLine(runtime, options.runtimeFlags ?? []), role, '--config', file, '--log', 'json'],
      { readyWhen: /"addresses"/ },
    );
  };
  if (processes === 'one') programs.push(await start('up', { deployments }));
  else {
    programs.push(await start('manager', { deployments, ports: { ...ports, stats: otherStats } }));
    programs.push(await start('faceplate', {}));
  }
  const url = `http://127.0.0.1:${jsonRpc}/rpc`;
  await waitUntilAllServe(url, `http://127.0.0.1:${stats}`, count + others.length);
  const address = front === 'framed' ? `127.0.0.1:${thrift}` : url;
  return {
    protocol: front,
    addresses: [address],
    method: 'Echo.echo',
    pids: programs.map(({ pid }) => pid),
    statsUrl: `http://127.0.0.1:${stats}`,
    async close() {
      for (const program of programs.toReversed()) await program.close();
      await consul?.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Chassis that are called directly, without a mesh. */
export async function chassisAlone(count: number = COPIES): Promise<Target> {
  const ports = await freePorts(count);
  const programs = await Promise.all(
    ports.map((port) => startProgram(echoChassis(1), { env: { KATAMARI_LISTEN: `tcp:127.0.0.1:${port}` } })),
  );
  return target(
    'framed',
    ports.map((port) => `127.0.0.1:${port}`),
    programs,
  );
}

function faultyEcho(fault: string): object {
  const command = [...echoChassis(1), '2.0.0'];
  return { service: 'Echo', version: '2.0.0', command, count: 2, env: { ECHO_FAULT: fault } };
}

export function echoChassis(concurrency: number): string[] {
  return [process.execPath, path.join(REPOSITORY, 'dist', 'bench', 'echo-chassis.js'), ECHO_IDL, String(concurrency)];
}

export function runtimeLine(runtime: Runtime, flags: readonly string[]): string[] {
  const bin = (name: string): string => path.join(REPOSITORY, 'node_modules', '.bin', name);
  const source = path.join(REPOSITORY, 'services', 'cli', 'main.ts');
  switch (runtime) {
    case 'node':
      return [process.execPath, ...flags, path.join(REPOSITORY, 'dist', 'services', 'cli', 'main.js')];
    case 'bun':
      return [bin('bun'), ...flags, source];
    case 'deno':
      return [bin('deno'), 'run', '-A', ...flags, source];
  }
}

async function waitUntilAllServe(url: string, statsUrl: string, count: number): Promise<void> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Echo.echo', params: { value: 'x' } });
  const endAt = performance.now() + SERVE_MS;
  for (;;) {
    const alive = await aliveAt(statsUrl);
    if (alive >= count) {
      const answer = (await (await fetch(url, { method: 'POST', body, headers: JSON_BODY })).json()) as {
        result?: string;
      };
      if (answer.result === 'x') return;
    }
    if (performance.now() > endAt) throw new Error(`${alive} of ${count} chassis are alive after ${SERVE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

interface PoolStatus {
  readonly service: string;
  readonly alive: number;
}

async function aliveAt(statsUrl: string): Promise<number> {
  const status = (await (await fetch(`${statsUrl}/status`)).json()) as {
    pools: readonly PoolStatus[];
    processes?: readonly { readonly pools?: readonly PoolStatus[] }[];
  };
  const pools = [...status.pools, ...(status.processes ?? []).flatMap(({ pools: others = [] }) => others)];
  return pools.filter(({ service }) => service === 'Echo').reduce((sum, { alive }) => sum + alive, 0);
}

function contender(name: string, ...args: readonly string[]): Promise<Program> {
  const options: ProgramOptions = { env: { NODE_ENV: 'production' } };
  return startProgram(
    [process.execPath, path.join(REPOSITORY, 'bench', 'contenders', `${name}.mjs`), ...args],
    options,
  );
}

function copies(start: () => Promise<Program>): Promise<Program[]> {
  return Promise.all(Array.from({ length: COPIES }, start));
}

function target(
  protocol: Target['protocol'],
  addresses: string[],
  programs: readonly Program[],
  folder?: string,
): Target {
  return {
    protocol,
    addresses,
    pids: programs.map(({ pid }) => pid),
    async close() {
      for (const program of programs) await program.close();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  return (await freePorts(1))[0] as number;
}

/** Number of single-threaded workers of a contender that has several. */
const COPIES = 4;
const SERVE_MS = 30_000;
const JSON_BODY = { 'content-type': 'application/json' };
