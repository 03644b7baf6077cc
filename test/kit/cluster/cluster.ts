// A simulated multi-machine cluster: real Consul servers, and masters, managers and faceplates as processes of the
// real command. Each process has its own host (network.ts) and its own directory, and runs on the caller's runtime.
// All descendants carry a marker in their environment, which identifies strays (Linux). Nothing is left at the end.

import { randomBytes, randomUUID } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Door } from './callers.ts';
import { ClusterProcess, type Role } from './process.ts';
import { ConsulProxy } from './consul-proxy.ts';
import { SmallDisk } from './small-disk.ts';
import { startConsulCluster, type ConsulCluster, type ConsulClusterOptions } from './consul-cluster.ts';
import { killAll } from '../tools/logged-process.ts';
import { fixture, type DeploymentText } from '../mesh/mesh.ts';
import { marked } from '../mesh/mesh-process.ts';
import { scriptCommand } from '../../../core/mod.ts';
import { loadConfig, desiredDeployment } from '../../../services/config/mod.ts';
import { documentSigner, keysOf } from '../../../services/mesh/mod.ts';
import { namespaceNetwork, type NamespaceNetwork, type Ways } from './namespaces.ts';
import { loopbackNetwork, type Host, type Network } from './network.ts';
import { until } from '../tools/wait.ts';

export interface ClusterOptions {
  readonly consuls?: number;
  readonly masters?: number;
  readonly managers?: number;
  readonly faceplates?: number;
  /** Namespaces need root. They allow network partitions. */
  readonly network?: 'loopback' | 'namespaces';
  /** Top-level keys of the katamari.yaml of every process, or a function of its name and role. */
  readonly settings?: Settings | ((name: string, role: Role) => Settings);
  /** Deployments in the configuration files of the managers. Each manager runs `count` copies. */
  readonly deployments?: readonly DeploymentText[];
  /** Deployments in Consul, as an admin writes them. The leader spreads `count` copies over the mesh. */
  readonly wanted?: readonly DeploymentText[];
  readonly consul?: Pick<ConsulClusterOptions, 'config' | 'token'>;
  /** The folder for all files. A folder that the caller gives is kept at the end. */
  readonly directory?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Puts a proxy in front of each Consul server, which can answer nonsense (`liars`). */
  readonly hasProxies?: boolean;
  /** Gives each process a small file system for its data and its log, which can be filled up (`disks`). Needs root. */
  readonly hasSmallDisks?: boolean;
  /** Their size; a manager fetches a shard only when 256 MiB stay free. */
  readonly diskMiB?: number;
  /** Reports what has started, for people. */
  readonly onProgress?: (what: string) => void;
}

type Settings = Readonly<Record<string, unknown>>;

export interface Cluster {
  readonly directory: string;
  readonly network: Network;
  readonly consul: ConsulCluster;
  /** Masters, managers and faceplates, in this order. */
  readonly processes: readonly ClusterProcess[];
  readonly masters: readonly ClusterProcess[];
  readonly managers: readonly ClusterProcess[];
  readonly faceplates: readonly ClusterProcess[];
  readonly adminToken: string;
  /** The proxies in front of the Consul servers. */
  readonly liars: readonly ConsulProxy[];
  /** The file systems of the processes, by name. */
  readonly disks: ReadonlyMap<string, SmallDisk>;
  /** Addresses of the faceplates, for ClusterCallers. */
  readonly doors: readonly Door[];
  process(name: string): ClusterProcess;
  /** The host of a process; names such as `consul-1` and `outside` are valid too. */
  host(name: string): Host;
  /** @throws Error when the cluster is on loopback */
  readonly namespaces: NamespaceNetwork;
  /** Returns the text as a process of this mesh would write it to a key of Consul, with its signature. */
  sign(key: string, text: string): string;
  /** Writes the deployment to Consul as `katamari deploy` does. */
  deploy(deployment: DeploymentText): Promise<void>;
  undeploy(service: string, version: string): Promise<void>;
  /** The ledger of the test chassis, one line an execution. */
  ledger(): string[];
  /** Drops packets from one process's host to another's. Names such as `consul-1` are valid too. Namespaces only. */
  cut(from: string, to: string, ways?: Ways): Promise<void>;
  heal(from: string, to: string, ways?: Ways): Promise<void>;
  /** Pids of living descendants: chassis, helpers, and what they started. */
  descendants(): number[];
  /** Those descendants that have no living process of the cluster among their ancestors. */
  strays(): number[];
  /** Sends SIGTERM to faceplates, managers and masters, in this order. Consul keeps running. */
  stop(): Promise<void>;
  /** Kills everything that still runs and removes all files. */
  end(): Promise<void>;
}

/** The deployment of the counting chassis (test/fixtures/chassis/tally.ts); `change` adds and overrides keys. */
export function tally(change: Readonly<Record<string, unknown>> = {}): DeploymentText {
  const { env, ...rest } = change;
  const version = (rest['version'] as string | undefined) ?? '1.0.0';
  const given = env as Record<string, string> | undefined;
  return {
    service: 'Tally',
    version,
    command: fixture('tally.ts'),
    ...rest,
    env: { TALLY_VERSION: version, ...given },
  };
}

/** @throws Error with the last lines of the process that did not start */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const say = options.onProgress ?? (() => undefined);
  const network = options.network === 'namespaces' ? await namespaceNetwork() : await loopbackNetwork();
  const cluster = new TestCluster(options, network);
  try {
    say(`${options.consuls ?? 3} Consul servers on ${network.range}`);
    await cluster.startConsul();
    say(`Consul has a leader after ${Math.round(cluster.consul.upAfterMs)} ms`);
    for (const deployment of options.wanted ?? []) await cluster.deploy(deployment);
    await cluster.startProcesses(say);
    return cluster;
  } catch (error) {
    await cluster.end();
    throw error;
  }
}

class TestCluster implements Cluster {
  readonly directory: string;
  readonly network: Network;
  readonly processes: ClusterProcess[] = [];
  readonly adminToken: string = randomBytes(24).toString('hex');
  readonly liars: ConsulProxy[] = [];
  readonly disks = new Map<string, SmallDisk>();
  readonly #options: ClusterOptions;
  readonly #secret = randomBytes(24).toString('hex');
  readonly #ledger: string;
  readonly #mark = `MESH_MARK=${randomUUID()}`;
  readonly #env: Readonly<Record<string, string>>;
  #consul: ConsulCluster | undefined;

  constructor(options: ClusterOptions, network: Network) {
    this.#options = options;
    this.network = network;
    this.directory = options.directory ?? mkdtempSync(path.join(tmpdir(), 'katamari-cluster-'));
    this.#ledger = path.join(this.directory, 'ledger');
    appendFileSync(this.#ledger, '');
    const [name = '', value = ''] = this.#mark.split('=');
    this.#env = { [name]: value };
  }

  get consul(): ConsulCluster {
    if (this.#consul === undefined) throw new Error('Consul has not been started');
    return this.#consul;
  }

  get masters(): readonly ClusterProcess[] {
    return this.#of('master');
  }

  get managers(): readonly ClusterProcess[] {
    return this.#of('manager');
  }

  get faceplates(): readonly ClusterProcess[] {
    return this.#of('faceplate');
  }

  get doors(): readonly Door[] {
    return this.faceplates.map(({ name, host, ports }) => ({
      name,
      host: host.address,
      thriftPort: ports.thrift,
      jsonRpcPort: ports.jsonRpc,
    }));
  }

  async startConsul(): Promise<void> {
    this.#consul = await startConsulCluster({
      ...this.#options.consul,
      network: this.network,
      servers: this.#options.consuls ?? 3,
      directory: this.directory,
      env: this.#env,
    });
    if (this.#options.hasProxies !== true) return;
    const host = 'outside' in this.network ? (this.network as NamespaceNetwork).outside.address : '127.0.0.1';
    for (const { address } of this.#consul.servers) this.liars.push(await ConsulProxy.start(address, host));
  }

  async startProcesses(say: (what: string) => void): Promise<void> {
    const { masters = 2, managers = 3, faceplates = 2 } = this.#options;
    for (let n = 1; n <= masters; n++) await this.#add('master', n);
    for (let n = 1; n <= managers; n++) await this.#add('manager', n);
    for (let n = 1; n <= faceplates; n++) await this.#add('faceplate', n);
    for (const process of this.processes) process.start();
    await Promise.all(
      this.processes.map(async (process) => {
        await process.untilReady();
        say(`${process.name} is ready, process ${process.pid} on ${process.host.address}`);
      }),
    );
  }

  sign(key: string, text: string): string {
    return documentSigner(MESH, () => [this.#secret]).sign(key, text);
  }

  process(name: string): ClusterProcess {
    const found = this.processes.find((process) => process.name === name);
    if (found !== undefined) return found;
    throw new Error(`No process "${name}": there are ${this.processes.map((process) => process.name).join(', ')}`);
  }

  async deploy(deployment: DeploymentText): Promise<void> {
    const file = path.join(this.directory, 'deploy.yaml');
    writeFileSync(file, JSON.stringify({ deployments: [this.#withLedger(deployment)] }));
    const { config } = loadConfig({ file, env: {}, cwd: this.directory, flags: [] });
    for (const one of config.deployments)
      await this.#put(deploymentKey(one.service, one.version), desiredDeployment(one));
  }

  async undeploy(service: string, version: string): Promise<void> {
    await this.#changed(await this.consul.ask(`/v1/kv/${deploymentKey(service, version)}`, { method: 'DELETE' }));
  }

  ledger(): string[] {
    return readFileSync(this.#ledger, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  }

  async cut(from: string, to: string, ways: Ways = 'both'): Promise<void> {
    await this.namespaces.cut(this.host(from), this.host(to), ways);
  }

  async heal(from: string, to: string, ways: Ways = 'both'): Promise<void> {
    await this.namespaces.heal(this.host(from), this.host(to), ways);
  }

  descendants(): number[] {
    const own = [...this.processes, ...(this.#consul?.servers ?? [])].map(({ pid }) => pid);
    return marked(this.#mark).filter((pid) => !own.includes(pid));
  }

  strays(): number[] {
    const own = new Set(this.processes.map(({ pid }) => pid));
    return this.descendants().filter((pid) => !ancestors(pid).some((ancestor) => own.has(ancestor)));
  }

  async stop(): Promise<void> {
    for (const group of [this.faceplates, this.managers, this.masters])
      await Promise.all(group.map((process) => process.stop()));
  }

  async end(): Promise<void> {
    await Promise.all(this.processes.map((process) => process.kill()));
    await Promise.all(this.liars.map((liar) => liar.close()));
    await this.#consul?.end();
    // Chassis end with their manager, by themselves or through its reaper. The rest is killed here.
    await until('chassis to end', () => marked(this.#mark).length === 0, LEAVE_MS).catch(() => undefined);
    await killAll(marked(this.#mark));
    await this.network.end();
    for (const disk of this.disks.values()) disk.end();
    if (this.#options.directory === undefined) rmSync(this.directory, { recursive: true, force: true });
  }

  async #add(role: Role, number: number): Promise<void> {
    const name = `${role}-${number}`;
    const host = await this.network.addHost(name);
    const directory = path.join(this.directory, name);
    mkdirSync(directory, { recursive: true });
    if (this.#options.hasSmallDisks === true) this.disks.set(name, new SmallDisk(directory, this.#options.diskMiB));
    const consuls = this.liars.length > 0 ? this.liars : this.consul.servers;
    const { settings = {}, deployments = [] } = this.#options;
    const text = {
      mesh: MESH,
      name,
      // A host here is a machine to the mesh.
      machine: name,
      dataDir: path.join(directory, 'data'),
      host: host.address,
      ports: PORTS,
      consul: { embedded: false, address: `http://${consuls[this.processes.length % consuls.length]?.address}` },
      link: { secret: this.#secret },
      admin: { token: this.adminToken },
      // The hosts of a cluster are machines to each other, and the callers of a test have no token.
      access: { anonymous: 'always' },
      shutdownDelay: 0,
      ...(role === 'master' ? { master: { rank: number } } : {}),
      ...(role === 'manager' ? { deployments: deployments.map((one) => this.#withLedger(one)) } : {}),
      ...(typeof settings === 'function' ? settings(name, role) : settings),
    };
    const config = path.join(directory, 'katamari.yaml');
    writeFileSync(config, JSON.stringify(text, null, 1));
    const main = scriptCommand(fileURLToPath(new URL('../../../services/cli/main.ts', import.meta.url)));
    this.processes.push(
      new ClusterProcess({
        name,
        role,
        host,
        directory,
        ports: PORTS,
        command: [...main, role, '--config', config],
        env: {
          PATH: process.env['PATH'],
          HOME: directory,
          LANG: 'C.UTF-8',
          ...this.#env,
          ...this.#options.env,
        },
      }),
    );
  }

  #withLedger(deployment: DeploymentText): DeploymentText {
    const ledgers = { WORK_LEDGER: this.#ledger, TALLY_LEDGER: this.#ledger };
    return { ...deployment, env: { ...ledgers, ...(deployment['env'] as object | undefined) } };
  }

  async #put(key: string, value: unknown): Promise<void> {
    const body = this.sign(key, JSON.stringify(value));
    await this.#changed(await this.consul.ask(`/v1/kv/${key}`, { method: 'PUT', body }));
  }

  async #changed(response: Response): Promise<void> {
    const said = await response.text();
    if (said.trim() !== 'true') throw new Error(`Consul refused a change with ${response.status}: ${said}`);
  }

  #of(role: Role): ClusterProcess[] {
    return this.processes.filter((process) => process.role === role);
  }

  get namespaces(): NamespaceNetwork {
    if ('cut' in this.network) return this.network as NamespaceNetwork;
    throw new Error('Cannot cut: partitions need network namespaces, and this cluster is on loopback');
  }

  host(name: string): Host {
    if (name === 'outside') return this.namespaces.outside;
    return this.#consul?.servers.find((server) => server.name === name)?.host ?? this.process(name).host;
  }
}

/** Pids of the ancestors, nearest first. */
function ancestors(pid: number): number[] {
  const found: number[] = [];
  for (let at = parentOf(pid); at > 1 && !found.includes(at); at = parentOf(at)) found.push(at);
  return found;
}

/** Returns 0 if there is no parent. */
function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function deploymentKey(service: string, version: string): string {
  return `${keysOf(MESH).deployments}${service}/${version}`;
}

const MESH = 'test';
/** The default ports; each host has them for itself. */
const PORTS = { thrift: 9090, jsonRpc: 9080, stats: 9081, link: 9070 };
/** Time for the chassis of killed managers to end. */
const LEAVE_MS = 10_000;
