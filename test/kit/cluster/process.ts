// One process of a cluster: started, asked, hurt and started again.

import path from 'node:path';
import { LoggedProcess, type ProcessEnd } from '../tools/logged-process.ts';
import { readMetrics, type Metrics } from '../mesh/metrics.ts';
import type { Host } from './network.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { until } from '../tools/wait.ts';

export type Role = 'master' | 'manager' | 'faceplate';

export interface ClusterProcessOptions {
  readonly name: string;
  readonly role: Role;
  readonly host: Host;
  /** Configuration, data and log. */
  readonly directory: string;
  readonly ports: { readonly thrift: number; readonly jsonRpc: number; readonly stats: number; readonly link: number };
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface ProcessAddresses {
  /** HOST:PORT */
  readonly thrift: string;
  /** URLs. */
  readonly jsonRpc: string;
  readonly stats: string;
  /** HOST:PORT */
  readonly link: string;
}

export class ClusterProcess {
  readonly name: string;
  readonly role: Role;
  readonly host: Host;
  readonly directory: string;
  readonly ports: ClusterProcessOptions['ports'];
  /** Where this role listens; not all do on all of them. */
  readonly addresses: ProcessAddresses;
  readonly logFile: string;
  readonly #options: ClusterProcessOptions;
  #process: LoggedProcess | undefined;

  constructor(options: ClusterProcessOptions) {
    this.#options = options;
    const { name, role, host, directory, ports } = options;
    this.name = name;
    this.role = role;
    this.host = host;
    this.directory = directory;
    this.ports = ports;
    this.logFile = path.join(directory, 'log');
    this.addresses = {
      thrift: `${host.address}:${ports.thrift}`,
      jsonRpc: `http://${host.address}:${ports.jsonRpc}`,
      stats: `http://${host.address}:${ports.stats}`,
      link: `${host.address}:${ports.link}`,
    };
  }

  /** 0 while it does not run. */
  get pid(): number {
    return this.isRunning ? (this.#process?.pid ?? 0) : 0;
  }

  get isRunning(): boolean {
    return this.#process?.isRunning === true;
  }

  /** How the process that runs now, or ran last, ends. */
  get ended(): Promise<ProcessEnd> {
    return this.#process?.ended ?? Promise.reject(new Error(`${this.name} was never started`));
  }

  /** Does not wait until it is ready. */
  start(): void {
    if (this.isRunning) throw new Error(`Cannot start ${this.name}: it runs`);
    const { host, command, directory, env } = this.#options;
    this.#process = new LoggedProcess(host.command(command), { cwd: directory, env, log: this.logFile });
  }

  /** Waits for /readyz; how long that took, in ms. @throws Error with its last lines when it ends or takes too long */
  async untilReady(withinMs: number = READY_MS): Promise<number> {
    const since = performance.now();
    let said = 'nothing';
    try {
      await until(
        `${this.name} to be ready`,
        async () => {
          if (!this.isRunning) {
            const { code, signal } = await this.ended;
            throw new Error(`${this.name} ended with ${code ?? signal} before it was ready`);
          }
          const response = await this.#get('/readyz').catch((error: Error) => (said = error.message));
          if (typeof response === 'string') return false;
          said = await response.text();
          return response.status === 200;
        },
        withinMs,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}. /readyz: ${said}\n${this.#process?.lastLines() ?? ''}`, {
        cause: error,
      });
    }
    return performance.now() - since;
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.signal(name);
  }

  /** SIGKILL. Its chassis end by themselves. */
  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  /** SIGTERM, and how it ended. @throws Error when it does not */
  async stop(withinMs: number = STOP_MS): Promise<ProcessEnd> {
    this.signal('SIGTERM');
    const bound = new Promise<undefined>((resolve) => {
      setTimeout(() => resolve(undefined), withinMs).unref();
    });
    const end = await Promise.race([this.ended, bound]);
    if (end !== undefined) return end;
    throw new Error(`${this.name} goes on ${withinMs} ms after SIGTERM:\n${this.#process?.lastLines() ?? ''}`);
  }

  /** Stops it if it runs, starts it, and waits until it is ready; how long the last took, in ms. */
  async restart(): Promise<number> {
    if (this.isRunning) await this.stop();
    this.start();
    return await this.untilReady();
  }

  /** Everything it ever wrote. */
  log(): string {
    return this.#process?.log() ?? '';
  }

  async status(): Promise<MeshStatus> {
    return (await (await this.#get('/status')).json()) as MeshStatus;
  }

  async metrics(): Promise<Metrics> {
    return readMetrics(await (await this.#get('/metrics')).text());
  }

  #get(page: string): Promise<Response> {
    return fetch(`${this.addresses.stats}${page}`, { signal: AbortSignal.timeout(ASK_MS) });
  }
}

const READY_MS = 60_000;
const STOP_MS = 30_000;
const ASK_MS = 5_000;
