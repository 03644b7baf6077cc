// One process of a cluster: starts it, queries it, kills it and starts it again.

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
  /** Folder for configuration, data and log. */
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
  /** Its addresses. Each role listens on only some of them. */
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

  /** 0 while the process is stopped. */
  get pid(): number {
    return this.isRunning ? (this.#process?.pid ?? 0) : 0;
  }

  get isRunning(): boolean {
    return this.#process?.isRunning === true;
  }

  /** The exit of the current process, or of the last one. */
  get ended(): Promise<ProcessEnd> {
    return this.#process?.ended ?? Promise.reject(new Error(`${this.name} was never started`));
  }

  /** Starts the process and does not wait until it is ready. */
  start(): void {
    if (this.isRunning) throw new Error(`Cannot start ${this.name}: it runs`);
    const { host, command, directory, env } = this.#options;
    this.#process = new LoggedProcess(host.command(command), { cwd: directory, env, log: this.logFile });
  }

  /**
   * Waits for /readyz and returns how long that took, in ms. @throws Error with the last lines when it ends or takes
   * too long
   */
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

  /** Sends SIGKILL. Its chassis end by themselves. */
  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  /** Sends SIGTERM and returns the exit. @throws Error when the process does not end in time */
  async stop(withinMs: number = STOP_MS): Promise<ProcessEnd> {
    this.signal('SIGTERM');
    const bound = new Promise<undefined>((resolve) => {
      setTimeout(() => resolve(undefined), withinMs).unref();
    });
    const end = await Promise.race([this.ended, bound]);
    if (end !== undefined) return end;
    throw new Error(`${this.name} still runs ${withinMs} ms after SIGTERM:\n${this.#process?.lastLines() ?? ''}`);
  }

  /** Stops the process if it runs, starts it and waits until it is ready. Returns how long the start took, in ms. */
  async restart(): Promise<number> {
    if (this.isRunning) await this.stop();
    this.start();
    return await this.untilReady();
  }

  /** All output of this process and its predecessors. */
  log(): string {
    return this.#process?.log() ?? '';
  }

  /** The last lines of its output. */
  lastLines(count: number): string {
    return this.#process?.lastLines(count) ?? '';
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
