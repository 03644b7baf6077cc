// Real Consul servers as one raft cluster, each on its own host with Consul's default ports. They can be killed and
// started again with or without their data. Elections are as fast as Consul allows.

import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { LoggedProcess } from '../tools/logged-process.ts';
import { CONSUL_PORT, type Host, type Network } from './network.ts';
import { toolPath } from '../tools/tools.ts';
import { until } from '../tools/wait.ts';

export interface ConsulClusterOptions {
  readonly network: Network;
  readonly servers?: number;
  /** Merged over the configuration of each server: ACLs, TLS, ports such as `https`. */
  readonly config?: (host: Host, index: number) => Readonly<Record<string, unknown>>;
  /** Token for the requests of this class; needed when ACLs deny by default. */
  readonly token?: string;
  /** The folder for configuration, data and logs. A folder that the caller gives is kept at the end. */
  readonly directory?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ConsulServer {
  readonly name: string;
  readonly host: Host;
  /** HOST:PORT of its HTTP API. */
  readonly address: string;
  readonly logFile: string;
  readonly isRunning: boolean;
  /** 0 while the server is stopped. */
  readonly pid: number;
  /** Sends the signal and does not wait for its effect. */
  signal(name: NodeJS.Signals): void;
  log(): string;
}

export interface ConsulCluster {
  readonly servers: readonly ConsulServer[];
  /** Time from the first start until all servers follow a leader, in ms. */
  readonly upAfterMs: number;
  /** Sends SIGKILL. */
  kill(index: number): Promise<void>;
  /** Starts a stopped server with the data it has. Does not wait for a leader. */
  start(index: number): void;
  /** Removes the data of a stopped server. */
  wipe(index: number): void;
  /** The leader that all running servers follow; undefined while there is none. */
  leader(): Promise<ConsulServer | undefined>;
  /** Waits until all running servers follow one leader that can serve. Returns how long that took, in ms. */
  waitForLeader(): Promise<number>;
  /** Sends one request to the HTTP API of the first running server that answers. */
  ask(pathAndQuery: string, init?: RequestInit): Promise<Response>;
  end(): Promise<void>;
}

export async function startConsulCluster(options: ConsulClusterOptions): Promise<ConsulCluster> {
  const directory = options.directory ?? mkdtempSync(path.join(tmpdir(), 'katamari-consuls-'));
  const hosts: Host[] = [];
  for (let n = 1; n <= (options.servers ?? 3); n++) hosts.push(await options.network.addHost(`consul-${n}`));
  const servers = hosts.map((host, index) => new Server(host, hosts, directory, options, index));
  const cluster = new Cluster(servers, directory, options);
  try {
    for (const server of servers) server.start();
    cluster.upAfterMs = await cluster.waitForLeader();
    return cluster;
  } catch (error) {
    await cluster.end();
    throw error;
  }
}

class Cluster implements ConsulCluster {
  readonly servers: readonly Server[];
  upAfterMs = 0;
  readonly #directory: string;
  readonly #options: ConsulClusterOptions;

  constructor(servers: readonly Server[], directory: string, options: ConsulClusterOptions) {
    this.servers = servers;
    this.#directory = directory;
    this.#options = options;
  }

  async kill(index: number): Promise<void> {
    await this.#server(index).kill();
  }

  start(index: number): void {
    this.#server(index).start();
  }

  wipe(index: number): void {
    this.#server(index).wipe();
  }

  async leader(): Promise<ConsulServer | undefined> {
    const running = this.servers.filter(({ isRunning }) => isRunning);
    const said = await Promise.all(running.map((server) => this.#text(server, '/v1/status/leader')));
    const [first] = said;
    if (first === undefined || said.some((one) => one !== first)) return undefined;
    // The reply is `"ADDRESS:8300"`, and stays so for a while after that server has died.
    return running.find(({ host }) => first === `"${host.address}:${RAFT_PORT}"`);
  }

  async waitForLeader(): Promise<number> {
    const since = performance.now();
    const running = this.servers.filter(({ isRunning }) => isRunning);
    try {
      await until(
        'the Consul servers to have a leader',
        async () => {
          for (const server of running) server.assertRuns();
          return (await this.leader()) !== undefined && (await this.#serves(running));
        },
        LEADER_MS,
      );
    } catch (error) {
      const logs = running.map(({ name, lastLines }) => `${name}:\n${lastLines()}`);
      throw new Error(`${(error as Error).message}\n${logs.join('\n')}`, { cause: error });
    }
    return performance.now() - since;
  }

  async ask(pathAndQuery: string, init: RequestInit = {}): Promise<Response> {
    let failure: unknown = new Error('no Consul server runs');
    for (const server of this.servers.filter(({ isRunning }) => isRunning)) {
      try {
        return await this.#fetch(server, pathAndQuery, init);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async end(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.kill()));
    if (this.#options.directory === undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  /** The leader is certain of itself and knows each server to be alive, so sessions can be tied to them. */
  async #serves(running: readonly Server[]): Promise<boolean> {
    const [first] = running;
    if (first === undefined) return false;
    const [nodes, health] = await Promise.all([
      this.#text(first, '/v1/catalog/nodes?consistent'),
      this.#text(first, '/v1/health/state/passing?consistent'),
    ]);
    if (nodes === undefined || health === undefined) return false;
    const alive = JSON.parse(health) as readonly { Node: string; CheckID: string }[];
    return running.every(({ name }) => alive.some(({ Node, CheckID }) => Node === name && CheckID === 'serfHealth'));
  }

  async #text(server: Server, pathAndQuery: string): Promise<string | undefined> {
    try {
      const response = await this.#fetch(server, pathAndQuery);
      const text = await response.text();
      return response.ok ? text : undefined;
    } catch {
      return undefined;
    }
  }

  #fetch(server: Server, pathAndQuery: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#options.token !== undefined) headers.set('x-consul-token', this.#options.token);
    const signal = AbortSignal.timeout(ASK_MS);
    return fetch(`http://${server.address}${pathAndQuery}`, { signal, ...init, headers });
  }

  #server(index: number): Server {
    const server = this.servers[index];
    if (server === undefined) throw new Error(`No Consul server ${index}: there are 0 to ${this.servers.length - 1}`);
    return server;
  }
}

class Server implements ConsulServer {
  readonly name: string;
  readonly host: Host;
  readonly address: string;
  readonly logFile: string;
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;
  #process: LoggedProcess | undefined;

  constructor(
    host: Host,
    hosts: readonly Host[],
    directory: string,
    { config, env = {} }: ConsulClusterOptions,
    index: number,
  ) {
    this.name = host.name;
    this.host = host;
    this.address = `${host.address}:${CONSUL_PORT}`;
    this.#env = env;
    this.#directory = path.join(directory, host.name);
    this.logFile = path.join(this.#directory, 'log');
    mkdirSync(this.#directory, { recursive: true });
    const { ports, ...given } = config?.(host, index) ?? {};
    const text = {
      node_name: host.name,
      // The node id survives a wipe: to the other servers it is the same server without its data.
      node_id: randomUUID(),
      bind_addr: host.address,
      client_addr: host.address,
      data_dir: path.join(this.#directory, 'data'),
      server: true,
      bootstrap_expect: hosts.length,
      retry_join: hosts.map(({ address }) => address),
      retry_interval: '1s',
      disable_update_check: true,
      performance: { raft_multiplier: 1 },
      ports: {
        http: CONSUL_PORT,
        server: RAFT_PORT,
        dns: -1,
        grpc: -1,
        https: -1,
        serf_wan: -1,
        ...(ports as object | undefined),
      },
      // Per client address; on loopback all clients share one.
      limits: { http_max_conns_per_client: 10_000 },
      ...given,
    };
    writeFileSync(path.join(this.#directory, 'config.json'), JSON.stringify(text, null, 1));
  }

  get isRunning(): boolean {
    return this.#process?.isRunning === true;
  }

  get pid(): number {
    return this.isRunning ? (this.#process?.pid ?? 0) : 0;
  }

  start(): void {
    if (this.isRunning) throw new Error(`Cannot start ${this.name}: it runs`);
    const line = [toolPath('consul'), 'agent', '-config-file', path.join(this.#directory, 'config.json')];
    this.#process = new LoggedProcess(this.host.command(line), {
      cwd: this.#directory,
      env: { PATH: process.env['PATH'], HOME: this.#directory, ...this.#env },
      log: this.logFile,
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.signal(name);
  }

  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  wipe(): void {
    if (this.isRunning) throw new Error(`Cannot wipe ${this.name}: it runs, kill it first`);
    rmSync(path.join(this.#directory, 'data'), { recursive: true, force: true });
  }

  log(): string {
    return this.#process?.log() ?? '';
  }

  readonly lastLines = (): string => this.#process?.lastLines() ?? 'never started';

  assertRuns(): void {
    if (!this.isRunning) throw new Error(`${this.name} has ended`);
  }
}

/** Consul's default. */
const RAFT_PORT = 8300;
const LEADER_MS = 30_000;
const ASK_MS = 5_000;
