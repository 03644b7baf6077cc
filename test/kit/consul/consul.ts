// Consul for tests: the embedded agent and the real server, both on ports that were free a moment ago and with their
// data in a folder of their own. Both are removed at the end.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConsulAgent, ConsulAgentOptions } from '../../../services/consul-agent/agent.ts';
import { startConsulAgent } from '../../../services/consul-agent/mod.ts';
import { toolPath } from '../tools/tools.ts';
import { until } from '../tools/wait.ts';

export interface TestConsul {
  readonly kind: 'embedded' | 'real';
  readonly host: string;
  readonly port: number;
  /** HOST:PORT */
  readonly address: string;
  /** Kills it: SIGKILL, or all connections cut. Its data and its port are kept for `start`. */
  kill(): Promise<void>;
  /** Starts it again after `kill`, on the same port; with `isEmpty`, without its data. */
  start(options?: { isEmpty?: boolean }): Promise<void>;
  /** Stops it and removes its data. */
  close(): Promise<void>;
}

export const CONSUL_KINDS: readonly ['embedded', 'real'] = ['embedded', 'real'];

/** Options of a real server besides its ports. */
export interface RealConsulOptions {
  /** Merged over the server's configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Token that may read the server's own health when ACLs are on. */
  readonly token?: string;
  /** False for a server that never elects a leader, because it waits for other servers (`bootstrap_expect`). */
  readonly hasLeader?: boolean;
}

/** A real server. It also listens for HTTPS if its configuration has certificates. */
export interface RealTestConsul extends TestConsul {
  /** HOST:PORT for HTTPS. */
  readonly httpsAddress: string;
}

/** Both kinds accept session TTLs from 1 s. */
export function startConsul(kind: TestConsul['kind'], options: ConsulAgentOptions = {}): Promise<TestConsul> {
  return kind === 'embedded' ? startEmbedded(options) : startRealConsul();
}

async function startEmbedded(options: ConsulAgentOptions): Promise<TestConsul> {
  const folder = mkdtempSync(join(tmpdir(), 'katamari-consul-'));
  const dataDir = join(folder, 'data');
  const all = { host: '127.0.0.1', sessionTtlMinMs: 1_000, dataDir, ...options };
  let agent: ConsulAgent | undefined = await startConsulAgent(all);
  const { port } = agent;
  return {
    kind: 'embedded',
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    async kill() {
      await agent?.close();
      agent = undefined;
    },
    async start({ isEmpty = false } = {}) {
      if (isEmpty) rmSync(dataDir, { recursive: true, force: true });
      agent = await startConsulAgent({ ...all, port });
    },
    async close() {
      await agent?.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Tries other ports when one was taken in the meantime. */
export async function startRealConsul(options: RealConsulOptions = {}): Promise<RealTestConsul> {
  for (let tries = 1; ; tries++) {
    const consul = new RealConsul(await freePorts(4), options);
    try {
      await consul.start();
      return consul;
    } catch (error) {
      await consul.close();
      if (tries === 3) throw error;
    }
  }
}

class RealConsul implements RealTestConsul {
  readonly kind = 'real';
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly address: string;
  readonly httpsAddress: string;
  readonly #options: RealConsulOptions;
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'katamari-consul-'));
  readonly #ports: readonly number[];
  #child: ChildProcess | undefined;
  readonly #endWithTests = (): void => void this.#child?.kill('SIGKILL');

  constructor(ports: readonly number[], options: RealConsulOptions) {
    this.#ports = ports;
    this.#options = options;
    this.httpsAddress = `127.0.0.1:${ports[3]}`;
    this.port = ports[0]!;
    this.address = `127.0.0.1:${this.port}`;
    process.once('exit', this.#endWithTests);
  }

  async start({ isEmpty = false } = {}): Promise<void> {
    const dataDir = join(this.#folder, 'data');
    if (isEmpty) rmSync(dataDir, { recursive: true, force: true });
    const [http, server, serf, httpsPort] = this.#ports;
    const { config: change = {}, hasLeader = true } = this.#options;
    const https = change['cert_file'] === undefined ? -1 : httpsPort;
    const config = {
      node_name: 'katamari',
      bind_addr: '127.0.0.1',
      client_addr: '127.0.0.1',
      data_dir: dataDir,
      server: true,
      bootstrap: true,
      disable_update_check: true,
      disable_host_node_id: true,
      performance: { raft_multiplier: 1 },
      session_ttl_min: '1s',
      ports: { http, server, serf_lan: serf, serf_wan: -1, dns: -1, grpc: -1, https },
      ...change,
    };
    writeFileSync(join(this.#folder, 'config.json'), JSON.stringify(config));
    const logFile = join(this.#folder, 'log');
    const args = ['agent', '-config-file', join(this.#folder, 'config.json'), '-log-file', logFile];
    const child = spawn(toolPath('consul'), args, { stdio: 'ignore' });
    this.#child = child;
    await until('Consul to have a leader and know itself', async () => {
      if (child.exitCode !== null) throw new Error(`Consul ended with ${child.exitCode}: ${lastLines(logFile)}`);
      // Without a leader, the reply says that there is none.
      if (!hasLeader) return (await this.#find('/v1/status/leader')) === '""';
      return (
        (await this.#find('/v1/status/leader')).includes(':') &&
        (await this.#find('/v1/health/state/passing')).includes('serfHealth')
      );
    });
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    process.off('exit', this.#endWithTests);
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #find(path: string): Promise<string> {
    try {
      const headers = { 'x-consul-token': this.#options.token ?? '' };
      return await (await fetch(`http://${this.address}${path}`, { headers })).text();
    } catch {
      return '';
    }
  }
}

function lastLines(file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-5).join('\n');
  } catch {
    return 'no log';
  }
}

/** Free ports of 127.0.0.1. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => resolve(server));
      });
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
