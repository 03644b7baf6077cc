// The status of this process alone, without requests to other processes. `StatusGatherer` adds the rest of the mesh.

import { runtimeName, runtimeVersion } from '../../core/mod.ts';
import type { MeshStatus, PoolStatus } from '../../core/rpc/mod.ts';
import { VERSION } from '../config/mod.ts';
import type { Rollout, SharedState } from '../mesh/mod.ts';
import type { ProcessContext } from './process-context.ts';

/** The leader as the master of this process sees it. */
interface KnownLeader {
  readonly name: string;
  readonly term: number;
}

export class StatusReporter {
  readonly #context: ProcessContext;
  readonly #shared: SharedState;
  #readPools: () => PoolStatus[] = () => [];
  #readLeader: () => KnownLeader | undefined = () => undefined;
  #readRollouts: () => Iterable<Rollout> = () => [];
  #whyNotReady: () => string = () => 'the process is starting';

  constructor(context: ProcessContext, shared: SharedState) {
    this.#context = context;
    this.#shared = shared;
  }

  /** Adds the pools of the manager of this process to the status. */
  reportPools(read: () => PoolStatus[]): void {
    this.#readPools = read;
  }

  /** Adds the leader that the master of this process knows to the status. */
  reportLeader(read: () => KnownLeader | undefined): void {
    this.#readLeader = read;
  }

  /** Adds the rollouts that the master of this process knows, for the metrics. */
  reportRollouts(read: () => Iterable<Rollout>): void {
    this.#readRollouts = read;
  }

  rollouts(): Iterable<Rollout> {
    return this.#readRollouts();
  }

  /** @param read returns why the process is not ready; '' if it is ready */
  reportReadiness(read: () => string): void {
    this.#whyNotReady = read;
  }

  /** Returns the pools of the manager of this process. */
  pools(): readonly PoolStatus[] {
    return this.#readPools();
  }

  read(): MeshStatus {
    const { config, roles, clock, startedAtMs, callStats, components } = this.#context;
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = callStats.sums();
    const { listeners } = components;
    const leader = this.#readLeader();
    const whyNotReady = this.#whyNotReady();
    return {
      mesh: config.mesh,
      name: config.name,
      version: VERSION,
      runtime: `${runtimeName()} ${runtimeVersion()}`,
      pid: process.pid,
      uptimeMs: Math.round(clock.nowMs() - startedAtMs),
      isReady: whyNotReady === '',
      isDraining: components.isDraining,
      note: whyNotReady,
      roles,
      timeoutMs: this.#shared.timeoutMs,
      rssBytes: process.memoryUsage.rss(),
      connections: Object.fromEntries(listeners.map((listener) => [listener.name, listener.connections()])),
      listeners: listeners.map(({ name, address }) => ({ name, address })),
      calls: { accepted, replied, failed, refused, timed_out, cancelled, inFlight },
      pools: this.#readPools(),
      processes: [],
      leader: leader?.name ?? '',
      term: leader?.term ?? 0,
    };
  }
}
