// A whole mesh as a separate process: the real `katamari up` with ephemeral ports and its own directory, on the
// caller's runtime. For what is visible only from outside: a mesh that is killed, what it leaves behind, and what
// survives a restart. All descendants carry a marker in their environment, which identifies strays (Linux).

import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { scriptCommand } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { fileURLToPath } from 'node:url';
import { isAlive, jsonRpc, type DeploymentText, type JsonRpcAnswer } from './mesh.ts';
import { until } from '../tools/wait.ts';

export interface MeshProcessOptions {
  /** Top-level keys of katamari.yaml; ports are 0 unless given here. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly deployments?: readonly DeploymentText[];
  /** Path of an existing configuration, which replaces the generated one. */
  readonly config?: string;
  /** The folder for configuration, data and ledger. A folder that the caller gives is kept at the end. */
  readonly directory?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface MeshAddresses {
  readonly thrift: string;
  readonly jsonRpc: string;
  readonly stats: string;
  readonly link: string;
  readonly consul: string;
}

export interface MeshProcess {
  readonly pid: number;
  readonly directory: string;
  readonly addresses: MeshAddresses;
  readonly adminToken: string;
  /** Token of the embedded Consul; '' with a real one. */
  readonly consulToken: string;
  /** From its start to the log line that says it is up, in ms. */
  readonly upAfterMs: number;
  /** All its output, for test messages. */
  output(): string;
  /** One JSON-RPC call; returns the whole response. */
  call(method: string, params?: unknown, headers?: Readonly<Record<string, string>>): Promise<JsonRpcAnswer>;
  status(): Promise<MeshStatus>;
  /** The ledger of the test chassis, one line an execution: `method argument pid`. */
  ledger(): string[];
  /** Living processes of this mesh except its own: chassis, what they started, helpers. */
  descendants(): number[];
  /** Closes the pipes that the process writes its output to, or stops and continues reading them. */
  readOutput(how: 'close' | 'pause' | 'resume'): void;
  /** Exit code; undefined while it runs. */
  exitCode(): number | undefined;
  /** Sends SIGTERM and returns the exit code. */
  stop(): Promise<number | null>;
  /** Sends SIGKILL to the process or to its process group. */
  kill(what?: 'process' | 'group'): Promise<void>;
  /** Kills everything that still runs and removes the directory. */
  end(): Promise<void>;
}

/** The exit of a mesh that did not start. */
export class MeshEnded extends Error {
  override readonly name = 'MeshEnded';
  readonly code: number | null;
  readonly stderr: string;

  constructor(code: number | null, output: string, stderr: string) {
    super(`The mesh ended with ${code} before it was up:\n${output}`);
    this.code = code;
    this.stderr = stderr;
  }
}

/** @throws MeshEnded */
export async function startMeshProcess(options: MeshProcessOptions = {}): Promise<MeshProcess> {
  const directory = options.directory ?? mkdtempSync(path.join(tmpdir(), 'katamari-mesh-'));
  const ledger = path.join(directory, 'ledger');
  const config = options.config ?? writeConfig(directory, ledger, options);
  writeFileSync(ledger, '', { flag: 'a' });
  const mark = `MESH_MARK=${randomUUID()}`;
  const startedAt = performance.now();
  const child = launch(config, directory, mark, options.env ?? {});
  const said = capture(child);
  const dispose = async (): Promise<void> => {
    killGroup(child);
    await ended(child);
    for (const pid of marked(mark)) killOne(pid);
    if (options.directory === undefined) rmSync(directory, { recursive: true, force: true });
  };
  try {
    const addresses = await until('the mesh to come up', () => {
      if (hasEnded(child)) return 'ended';
      return addressesIn(said.stdout());
    });
    if (addresses === 'ended') {
      await said.whole;
      throw new MeshEnded(child.exitCode, said.all(), said.stderr());
    }
    const upAfterMs = performance.now() - startedAt;
    const dataDir = path.join(directory, 'data');
    return {
      pid: child.pid ?? 0,
      directory,
      addresses,
      adminToken: secretIn(dataDir, 'admin-token'),
      consulToken: secretIn(dataDir, 'consul-token'),
      upAfterMs,
      output: () => said.all(),
      call: (method, params, headers) => jsonRpc(`${addresses.jsonRpc}/rpc`, method, params, headers),
      status: async () => (await (await fetch(`${addresses.stats}/status`)).json()) as MeshStatus,
      ledger: () =>
        readFileSync(ledger, 'utf8')
          .split('\n')
          .filter((line) => line !== ''),
      descendants: () => marked(mark).filter((pid) => pid !== child.pid),
      readOutput(how) {
        for (const stream of [child.stdout, child.stderr]) {
          if (how === 'close') stream?.destroy();
          else stream?.[how]();
        }
      },
      exitCode: () => child.exitCode ?? undefined,
      async stop() {
        // Not child.kill: with it, Deno reports the signal in place of the exit code.
        process.kill(child.pid ?? 0, 'SIGTERM');
        await ended(child);
        return child.exitCode;
      },
      async kill(what = 'process') {
        if (what === 'group') killGroup(child);
        else child.kill('SIGKILL');
        await ended(child);
      },
      end: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

function secretIn(dataDir: string, name: string): string {
  const file = path.join(dataDir, name);
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}

function writeConfig(
  directory: string,
  ledger: string,
  { settings = {}, deployments = [] }: MeshProcessOptions,
): string {
  const file = path.join(directory, 'katamari.yaml');
  const text = {
    mesh: 'test',
    name: 'one',
    ports: { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 },
    deployments: deployments.map((one) => ({
      ...one,
      env: { ...(one['env'] as object | undefined), WORK_LEDGER: ledger },
    })),
    ...settings,
  };
  writeFileSync(file, JSON.stringify(text, null, 1));
  return file;
}

/** Starts the command in its own process group, as a shell with job control does. */
function launch(config: string, directory: string, mark: string, env: Readonly<Record<string, string>>): ChildProcess {
  const [program = '', ...first] = scriptCommand(
    fileURLToPath(new URL('../../../services/cli/main.ts', import.meta.url)),
  );
  const portless = ['thrift', 'jsonRpc', 'stats', 'link', 'consul'].flatMap((port) => ['--set', `ports.${port}=0`]);
  const own = config.startsWith(directory) ? [] : portless;
  const args = ['up', '--config', config, '--log', 'json', '--data-dir', path.join(directory, 'data'), ...own];
  const [name = '', value = ''] = mark.split('=');
  return spawn(program, [...first, ...args], {
    cwd: directory,
    detached: true,
    env: {
      PATH: process.env['PATH'],
      HOME: directory,
      LANG: 'C.UTF-8',
      KATAMARI_SHUTDOWN_DELAY: '0',
      [name]: value,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

interface Said {
  stdout(): string;
  stderr(): string;
  all(): string;
  /** Resolves when all output has arrived. */
  readonly whole: Promise<void>;
}

function capture(child: ChildProcess): Said {
  const text = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (part: string) => {
      text[stream] = (text[stream] + part).slice(-OUTPUT_CHARS_MAX);
    });
  }
  const whole = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return { stdout: () => text.stdout, stderr: () => text.stderr, all: () => text.stdout + text.stderr, whole };
}

/** Parses the log line that says the mesh is up. */
function addressesIn(log: string): MeshAddresses | undefined {
  for (const line of log.split('\n')) {
    if (!line.includes('"addresses"')) continue;
    try {
      return (JSON.parse(line) as { addresses: MeshAddresses }).addresses;
    } catch {
      // Only half of the line has arrived.
    }
  }
  return undefined;
}

/** Pids of living processes with the marker in their environment. */
export function marked(mark: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark) && isAlive(pid);
    } catch {
      return false;
    }
  });
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function ended(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}

function killGroup(child: ChildProcess): void {
  if (child.pid !== undefined && !hasEnded(child)) killOne(-child.pid);
}

function killOne(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}

/** Limit per stream; the end of the output is kept. */
const OUTPUT_CHARS_MAX = 2_000_000;
