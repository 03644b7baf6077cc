// A whole mesh in this process with the test chassis: real processes, real sockets, ephemeral ports and its own
// directory.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { scriptCommand, systemClock, type Clock } from '../../../core/mod.ts';
import type { MeshEvent, PoolStatus } from '../../../core/rpc/mod.ts';
import { loadConfig } from '../../../services/config/mod.ts';
import type { RunningMesh } from '../../../services/process/mod.ts';
import { startMesh } from '../../../services/process/process.ts';
import { fileURLToPath } from 'node:url';
/** As in katamari.yaml. */
export type DeploymentText = Readonly<Record<string, unknown>> & { readonly service: string; readonly version: string };

export interface TestMesh {
  readonly mesh: RunningMesh;
  readonly events: MeshEvent[];
  readonly lines: string[];
  /** The ledger of the test chassis, one line an execution: `method argument pid`. */
  ledger(): string[];
  readonly ledgerFile: string;
  /** One JSON-RPC call; returns the whole response. */
  call(method: string, params?: unknown, headers?: Readonly<Record<string, string>>): Promise<JsonRpcAnswer>;
  pool(id: string): PoolStatus;
  /** Reads the embedded Consul at a path below /v1. */
  readonly readConsul: (path: string) => Promise<unknown>;
  end(): Promise<void>;
}

export interface JsonRpcAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly result?: unknown;
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data?: Readonly<Record<string, unknown>>;
  };
}

/** Command line of a chassis in test/fixtures/chassis on the runtime of the test. */
export function fixture(name: string): string[] {
  return scriptCommand(fileURLToPath(new URL(`../../fixtures/chassis/${name}`, import.meta.url)));
}

/** A deployment of the test chassis; `change` adds and overrides keys. */
export function work(change: Readonly<Record<string, unknown>> = {}): DeploymentText {
  const { env, ...rest } = change;
  const version = (rest['version'] as string | undefined) ?? '1.0.0';
  return {
    service: 'Work',
    version,
    command: fixture('work.ts'),
    count: 1,
    ...rest,
    env: { WORK_VERSION: version, ...(env as Record<string, string> | undefined) },
  };
}

/**
 * @param settings top-level keys of katamari.yaml beside the deployments
 * @param clock measures calls; the timers of the process run by it too
 */
export async function startTestMesh(
  deployments: readonly DeploymentText[],
  settings: Readonly<Record<string, unknown>> = {},
  clock: Clock = systemClock,
): Promise<TestMesh> {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-test-'));
  const ledger = path.join(directory, 'ledger');
  writeFileSync(ledger, '');
  const file = path.join(directory, 'katamari.yaml');
  const text = {
    mesh: 'test',
    name: 'one',
    dataDir: 'data',
    ports: { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 },
    deployments: deployments.map((one) => ({
      ...one,
      env: { ...(one['env'] as object | undefined), WORK_LEDGER: ledger },
    })),
    ...settings,
  };
  writeFileSync(file, JSON.stringify(text, null, 1));
  const { config } = loadConfig({ file, env: {}, cwd: directory, flags: [] });
  const events: MeshEvent[] = [];
  const lines: string[] = [];
  const hooks = {
    onEvent: (event: MeshEvent) => events.push(event),
    onLine: (resource: string, line: string) => lines.push(`${resource} ${line}`),
  };
  const mesh = await startMesh(config, hooks, undefined, clock);
  return {
    mesh,
    events,
    lines,
    ledgerFile: ledger,
    ledger: () =>
      readFileSync(ledger, 'utf8')
        .split('\n')
        .filter((line) => line !== ''),
    call: (method, params, headers) => jsonRpc(`${mesh.addresses.jsonRpc}/rpc`, method, params, headers),
    pool: (id) => {
      const found = mesh.status().pools.find((pool) => pool.id === id);
      if (found === undefined) throw new Error(`no pool ${id}`);
      return found;
    },
    readConsul: async (below) => {
      const token = readFileSync(path.join(directory, 'data', 'consul-token'), 'utf8').trim();
      const response = await fetch(`${mesh.addresses.consul}/v1/${below}`, { headers: { 'x-consul-token': token } });
      return await response.json();
    },
    end: async () => {
      await mesh.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** One call, whose HTTP status tells its error. */
export async function jsonRpc(
  url: string,
  method: string,
  params: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<JsonRpcAnswer> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, ...(params === undefined ? {} : { params }) });
  const response = await fetch(url, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', 'katamari-error-status': 'true', ...headers },
  });
  return {
    status: response.status,
    headers: response.headers,
    ...((await response.json()) as Pick<JsonRpcAnswer, 'result' | 'error'>),
  };
}

/** Whether the process exists and is no zombie. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
