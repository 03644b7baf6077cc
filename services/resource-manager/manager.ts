// The resource manager of this machine. It runs the deployments of its file and those that the leader assigned, sorts
// ready chassis into pools, and reports the pools that it offers. It owns processes, sockets and queues, and knows
// nothing of faceplates, Consul or routes.

import { type Clock, KatamariError } from '../../core/mod.ts';
import { CallStats, type EventKind, type PoolStatus, type RestartReason, type Send } from '../../core/rpc/mod.ts';
import { deploymentId, type DeployedService, type Deployment, type EventLog, type Offer } from '../mesh/mod.ts';
import type { ProcessInstance } from './instance.ts';
import { Launcher, type LauncherOptions } from './launcher.ts';
import { PermanentFaults } from './permanent-fault.ts';
import { PoolSet, type KnownInterface, type WatchPool } from './pool-set.ts';
import type { ResourcePool } from './pool.ts';
import { ReplicaSet } from './replica-set.ts';
import { Slot } from './slot.ts';
import { StartLimiter } from './start-limiter.ts';

export interface ManagerOptions extends LauncherOptions {
  readonly name: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Called when pools were added or removed, or the number of live resources changed. */
  readonly onPoolsChanged: () => void;
  /** How the calls of pools are watched. */
  readonly watch?: WatchPool;
  /** Interfaces that living chassis of a service and version speak elsewhere in the mesh. New ones must speak them. */
  readonly knownInterfaces?: (service: string, version: string) => readonly KnownInterface[];
}

/** Where a deployment comes from. The file wins if both have the same `Service@version`. */
export type DeploymentSource = 'file' | 'order';

export class ResourceManager {
  readonly #options: ManagerOptions;
  readonly #launcher: Launcher;
  readonly #starts: StartLimiter;
  readonly #faults: PermanentFaults;
  readonly #pools: PoolSet;
  /** By `Service@version`. A set that is not desired any more stays until its last chassis has ended. */
  readonly #replicaSets = new Map<string, ReplicaSet>();
  readonly #deployments: Record<DeploymentSource, readonly Deployment[]> = { file: [], order: [] };
  /** The desired state from both sources, by `Service@version`. */
  #desired: ReadonlyMap<string, Deployment> = new Map();
  /** Assigned deployments that the file overrides, to report each once. */
  #overridden: ReadonlySet<string> = new Set();
  /** An operator has drained this manager: the deployments of the file do not run. */
  #isDrained = false;
  /** The manager is shutting down. */
  #isDraining = false;
  #isNotifyQueued = false;

  constructor(options: ManagerOptions) {
    this.#options = options;
    const { name, clock, events, knownInterfaces } = options;
    this.#launcher = new Launcher(options);
    this.#starts = new StartLimiter(events, clock);
    this.#faults = new PermanentFaults(clock);
    this.#pools = new PoolSet({
      manager: name,
      clock,
      queueMaxOf: (id) => this.#queueMaxOf(id),
      failureOf: (id) => this.#failureOf(id),
      knownInterfaces: knownInterfaces ?? (() => []),
      watch: options.watch ?? (() => undefined),
      onAliveChanged: () => this.#notifySoon(),
      onRebound: (pool, why) => events.add('pool_gone', pool.options.id, why),
      onRefusing: (pool, why) => events.add('call_refused', pool, why),
    });
  }

  get socketDir(): string {
    return this.#launcher.socketDir;
  }

  /**
   * Sets the desired deployments of a source: starts new ones, drains missing ones and rolls changed ones chassis by
   * chassis. Idempotent.
   */
  setDeployments(source: DeploymentSource, deployments: readonly Deployment[]): void {
    this.#deployments[source] = deployments;
    this.#reconcile(source === 'file' ? 'its file has changed' : 'assigned by the leader');
  }

  /** Drains the chassis of the file's deployments, or starts them again. */
  setDrained(isDrained: boolean): void {
    if (this.#isDrained === isDrained) return;
    this.#isDrained = isDrained;
    const what = isDrained
      ? 'the deployments of its file are stopped until it is undrained'
      : 'runs the deployments of its file again';
    this.#options.events.add('drained', this.#options.name, what);
    this.#reconcile(isDrained ? 'this manager is drained' : 'this manager was undrained');
  }

  /** The pools of this machine, for the router. */
  offers(): readonly Offer[] {
    return this.#pools.offers();
  }

  /** What this manager runs, whether or not it has a pool; nothing while it shuts down. */
  deployed(): readonly DeployedService[] {
    if (this.#isDraining) return [];
    return [...this.#desired.values()]
      .filter(({ count }) => count > 0)
      .map((one) => {
        const { service, version, roles, queueMax } = one;
        return { service, version, roles, queueMax, failure: this.#failureOf(deploymentId(one)) };
      });
  }

  /** True when every desired slot of every deployment serves. */
  get isComplete(): boolean {
    return [...this.#replicaSets.values()].every((replicas) => replicas.isComplete);
  }

  /**
   * Routes a call to a pool of this machine, by exact service and version. If chassis of one version report different
   * details, the version has several pools. Then the roles and details of the call choose the pool, or detail
   * `katamari-pool` names it.
   */
  readonly send: Send = (call, sink) => this.#pools.send(call, sink);

  /**
   * Restarts the chassis of a service, one at a time. An old chassis drains after its replacement is ready.
   * @param version '' for all versions
   * @returns number of replaced chassis
   * @throws KatamariError when a replacement does not come up (the other chassis stay as they are), or nothing is
   * deployed by that name
   */
  async roll(service: string, version: string): Promise<number> {
    const replicaSets = [...this.#replicaSets.values()].filter(
      ({ id, deployment }) =>
        this.#desired.has(id) && deployment.service === service && (version === '' || deployment.version === version),
    );
    if (replicaSets.length === 0)
      throw new KatamariError(
        'no_pool',
        `Nothing is deployed as ${service}${version === '' ? '' : `@${version}`}; deployed are ${[...this.#desired.keys()].join(', ') || 'none'}`,
      );
    const counts = await Promise.all(replicaSets.map((replicas) => replicas.roll()));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /**
   * Replaces one chassis.
   * @param resource `Service@version/index`
   * @throws KatamariError when there is none, or the new one does not come up
   */
  async restart(resource: string): Promise<void> {
    for (const replicas of this.#replicaSets.values()) {
      const slot = replicas.slots.find(({ name }) => name === resource);
      if (slot !== undefined) return await slot.replace('operator', 'restarted by an operator', replicas.deployment);
    }
    throw new KatamariError(
      'no_pool',
      `No resource is called "${resource}"; names look like Service@1.0.0/1, see katamari status -v`,
    );
  }

  /** Status of every pool, and of every deployment that has no pool yet. */
  status(weightOf: (service: string, version: string) => number): PoolStatus[] {
    const { name } = this.#options;
    return [...this.#replicaSets.values()].map((replicas) =>
      replicas.status(name, weightOf, (pool) => this.#pools.windowOf(pool)),
    );
  }

  /** Call statistics of each pool, for the metrics. */
  poolStats(): {
    pool: string;
    service: string;
    version: string;
    stats: CallStats;
    restartsByReason: Partial<Record<RestartReason, number>>;
  }[] {
    return [...this.#replicaSets.values()].map(({ id, deployment: { service, version }, pool, restartsByReason }) => ({
      pool: pool?.options.id ?? id,
      service,
      version,
      stats: pool?.stats ?? NO_CALLS,
      restartsByReason,
    }));
  }

  /** Process ids of all chassis. */
  pids(): readonly number[] {
    return [...this.#replicaSets.values()]
      .flatMap(({ allSlots }) => allSlots)
      .flatMap(({ processes }) => processes.map((one) => one.process.pid));
  }

  /** Shuts down gracefully: waiting calls fail with `draining`, running calls finish, then every chassis stops. */
  async drain(why: string = 'the mesh is stopping'): Promise<void> {
    this.#isDraining = true;
    this.#starts.close();
    this.#pools.leave(`Manager ${this.#options.name} is leaving: ${why}`);
    await Promise.all([...this.#replicaSets.values()].map((replicas) => replicas.drain(why)));
    await this.close();
  }

  /** Shuts down now: kills every chassis. */
  async close(): Promise<void> {
    this.#isDraining = true;
    this.#starts.close();
    this.#pools.close('The mesh is stopping');
    await Promise.all([...this.#replicaSets.values()].map((replicas) => replicas.close()));
    await this.#launcher.close();
  }

  #reconcile(why: string): void {
    if (this.#isDraining) return;
    const before = this.#desired;
    this.#desired = this.#mergeSources();
    for (const [id, deployment] of this.#desired) this.#replicaSetOf(deployment, id).setDesired(deployment, why);
    for (const [id, replicas] of this.#replicaSets) {
      if (this.#desired.has(id)) continue;
      replicas.setDesired({ ...replicas.deployment, count: 0 }, why);
      if (replicas.isEmpty) this.#replicaSets.delete(id);
    }
    for (const id of before.keys()) {
      if (this.#queueMaxOf(id) === undefined)
        this.#pools.forget(id, `Manager ${this.#options.name} does not run ${id} any more: ${why}`);
    }
    this.#options.onPoolsChanged();
  }

  #mergeSources(): ReadonlyMap<string, Deployment> {
    const assigned = new Map(this.#deployments.order.map((one) => [deploymentId(one), one]));
    const fromFile = new Map(this.#deployments.file.map((one) => [deploymentId(one), one]));
    const overridden = new Set([...assigned.keys()].filter((id) => fromFile.has(id)));
    for (const id of overridden) {
      if (this.#overridden.has(id)) continue;
      const why = `assigned by the leader, and also in the file of manager ${this.#options.name}: the file wins. Remove it from one of them`;
      this.#options.events.add('order_refused', id, why);
    }
    this.#overridden = overridden;
    const drained = (one: Deployment): Deployment => (this.#isDrained ? { ...one, count: 0 } : one);
    return new Map([...assigned, ...[...fromFile].map(([id, one]) => [id, drained(one)] as const)]);
  }

  #replicaSetOf(deployment: Deployment, id: string): ReplicaSet {
    const found = this.#replicaSets.get(id);
    if (found !== undefined) return found;
    const { events } = this.#options;
    const replicas: ReplicaSet = new ReplicaSet({
      deployment,
      events,
      starts: this.#starts,
      newSlot: (name, of) => this.#newSlot(replicas, name, of),
      onChanged: () => this.#onReplicasChanged(replicas),
    });
    this.#replicaSets.set(id, replicas);
    return replicas;
  }

  #newSlot(replicas: ReplicaSet, name: string, deployment: Deployment): Slot {
    return new Slot({
      name,
      deployment,
      clock: this.#options.clock,
      faults: this.#faults,
      launch: (slot, of) => this.#launcher.launch(slot, of),
      admit: (instance) => this.#admit(instance, replicas),
      onPoolLeft: (pool) => this.#onPoolLeft(pool, replicas),
      report: (kind, slot, text, lines) => this.#report(kind, slot, replicas, text, lines),
      onRestart: (reason) => {
        replicas.restartsByReason[reason] = (replicas.restartsByReason[reason] ?? 0) + 1;
      },
    });
  }

  #admit(instance: ProcessInstance, { deployment }: ReplicaSet): ResourcePool {
    const { ready } = instance;
    if (ready === undefined) throw new KatamariError('internal', 'A chassis was admitted before it was ready');
    return this.#pools.admit(ready.details, ready.interface, deployment.queueMax);
  }

  #onPoolLeft(pool: ResourcePool, replicas: ReplicaSet): void {
    if (replicas.slots.some((slot) => slot.pool === pool)) return;
    const { id } = pool.options;
    const why =
      replicas.slots.length > 0 ? 'its chassis have other details now' : 'this manager runs no copies of it any more';
    const isRemoved = this.#pools.remove(
      pool,
      new KatamariError('draining', `Pool ${id} is gone: ${why}`, { notRun: true }),
    );
    if (isRemoved && !this.#isDraining) this.#options.events.add('pool_gone', id, why);
    this.#options.onPoolsChanged();
  }

  #onReplicasChanged(replicas: ReplicaSet): void {
    if (replicas.isEmpty && !this.#desired.has(replicas.id)) this.#replicaSets.delete(replicas.id);
    this.#notifySoon();
  }

  #report(
    kind: 'starting' | 'ready' | 'ended' | 'backing_off' | 'failed' | 'refused',
    slot: Slot,
    replicas: ReplicaSet,
    text: string,
    lines: readonly string[],
  ): void {
    const hasEnded = kind === 'ended' || kind === 'failed';
    if (this.#isDraining && !hasEnded) return;
    const { events, onPoolsChanged } = this.#options;
    events.add(`resource_${kind}` satisfies EventKind, slot.name, text, lines);
    if (kind === 'ready' && replicas.isComplete && slot.pool !== undefined)
      events.add('pool_ready', slot.pool.options.id, `${replicas.slots.length} resources`);
    if (hasEnded && slot.pool?.alive === 0 && !this.#isDraining)
      events.add('pool_empty', slot.pool.options.id, 'no resource is alive; calls wait');
    if (kind === 'ready') onPoolsChanged();
    if (hasEnded) this.#notifySoon();
  }

  /** Why no copy of a deployment can start until something changes; '' while one serves or may come up. */
  #failureOf(id: string): string {
    return this.#replicaSets.get(id)?.failure ?? '';
  }

  /** Removes the pools whose copies cannot start: their calls fail at once and do not wait for a copy. */
  #removeFailed(): void {
    for (const { id, pool, failure } of this.#replicaSets.values()) {
      if (failure !== '') this.#pools.fail(id, pool);
    }
  }

  /** Most calls that may wait for the first chassis of a deployment; undefined when it does not run here. */
  #queueMaxOf(id: string): number | undefined {
    const desired = this.#desired.get(id);
    return desired === undefined || desired.count === 0 ? undefined : desired.queueMax;
  }

  /** Coalesces changes of one turn of the event loop into one notification. */
  #notifySoon(): void {
    if (this.#isNotifyQueued) return;
    this.#isNotifyQueued = true;
    queueMicrotask(() => {
      this.#isNotifyQueued = false;
      this.#removeFailed();
      this.#options.onPoolsChanged();
    });
  }
}

const NO_CALLS: CallStats = new CallStats();
