// The resource manager of this machine: runs the deployments of its file and those that the leader ordered, sorts what was introduced into
// pools, tells the mesh which pools it offers. Owns processes, sockets and queues; knows nothing of faceplates, Consul or routes.

import { type Clock, KatamariError } from '../../core/mod.ts';
import { CallStats, type EventKind, type PoolStatus, type RestartReason, type Send } from '../../core/rpc/mod.ts';
import { deploymentId, type Deployment, type EventLog, type Offer } from '../mesh/mod.ts';
import type { ProcessInstance } from './instance.ts';
import { Launcher, type LauncherOptions } from './launcher.ts';
import { PoolSet, type KnownInterface } from './pool-set.ts';
import type { ResourcePool } from './pool.ts';
import { ReplicaSet } from './replica-set.ts';
import { Slot } from './slot.ts';
import { StartLimiter } from './start-limiter.ts';

export interface ManagerOptions extends LauncherOptions {
  readonly name: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** The set of pools has changed, or how many resources live in one. */
  readonly onPoolsChanged: () => void;
  /** Interfaces of a service and version elsewhere in the mesh; a chassis must agree with them. */
  readonly knownInterfaces?: (service: string, version: string) => readonly KnownInterface[];
}

/** Who says what is to run. The file's word counts where both speak. */
export type DeploymentSource = 'file' | 'order';

export class ResourceManager {
  readonly #options: ManagerOptions;
  readonly #launcher: Launcher;
  readonly #turns: StartLimiter;
  readonly #pools: PoolSet;
  /** By `Service@version`; one that is not wanted any more stays until its last chassis has ended. */
  readonly #groups = new Map<string, ReplicaSet>();
  readonly #said: Record<DeploymentSource, readonly Deployment[]> = { file: [], order: [] };
  /** By `Service@version`, of both sources. */
  #wanted: ReadonlyMap<string, Deployment> = new Map();
  /** Orders that the file overrules, to tell each once. */
  #overruled: ReadonlySet<string> = new Set();
  /** The file's deployments are not run for the time being. */
  #isDrained = false;
  /** It ends. */
  #isDraining = false;
  #isTellingSoon = false;

  constructor(options: ManagerOptions) {
    this.#options = options;
    const { name, clock, events, knownInterfaces } = options;
    this.#launcher = new Launcher(options);
    this.#turns = new StartLimiter(events, clock);
    this.#pools = new PoolSet({
      manager: name,
      clock,
      queueMaxOf: (id) => this.#queueMaxOf(id),
      knownInterfaces: knownInterfaces ?? (() => []),
      onAliveChanged: () => this.#tellSoon(),
    });
  }

  get socketDir(): string {
    return this.#launcher.socketDir;
  }

  /**
   * Runs exactly these of this source, whatever ran before: new ones are launched, missing ones end when their calls have, changed ones are
   * replaced chassis by chassis. The last call counts; the same again changes nothing.
   */
  setDeployments(source: DeploymentSource, deployments: readonly Deployment[]): void {
    this.#said[source] = deployments;
    this.#reconcile(source === 'file' ? 'its file has changed' : 'ordered by the leader');
  }

  /** Ends the chassis of the file's deployments when their calls have ended, and starts them again when it is undone. */
  setDrained(isDrained: boolean): void {
    if (this.#isDrained === isDrained) return;
    this.#isDrained = isDrained;
    const what = isDrained ? 'runs nothing of its file until that is undone' : 'runs its file again';
    this.#options.events.add('drained', this.#options.name, what);
    this.#reconcile(isDrained ? 'this manager is drained' : 'this manager is not drained any more');
  }

  /** The pools of this machine, for the router. */
  offers(): readonly Offer[] {
    return this.#pools.offers();
  }

  /** True when every slot of every deployment serves. */
  get isComplete(): boolean {
    return [...this.#groups.values()].every((group) => group.isComplete);
  }

  /**
   * Routes a call to a pool of this machine alone, as the manager's own port does: by exact service and version. Where chassis of one
   * version say different details there are several pools; then by the call's roles and details, or by a pool's id in detail `katamari-pool`.
   */
  readonly send: Send = (call, sink) => this.#pools.send(call, sink);

  /**
   * Rolling restart of a service's pools, one resource after the other, the new one before the old goes.
   * @param version '' for all versions
   * @returns how many resources were replaced
   * @throws Error when a replacement does not come up: the rest is left as it is
   */
  async roll(service: string, version: string): Promise<number> {
    const groups = [...this.#groups.values()].filter(
      ({ id, deployment }) =>
        this.#wanted.has(id) && deployment.service === service && (version === '' || deployment.version === version),
    );
    if (groups.length === 0)
      throw new KatamariError(
        'no_pool',
        `Nothing is deployed as ${service}${version === '' ? '' : `@${version}`}; deployed are ${[...this.#wanted.keys()].join(', ') || 'none'}`,
      );
    const counts = await Promise.all(groups.map((group) => group.roll()));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Replaces one resource, by its name. */
  async restart(resource: string): Promise<void> {
    for (const group of this.#groups.values()) {
      const slot = group.slots.find(({ name }) => name === resource);
      if (slot !== undefined) return await slot.replace('operator', 'restarted by an operator', group.deployment);
    }
    throw new KatamariError(
      'no_pool',
      `No resource is called "${resource}"; names look like Service@1.0.0/1, see katamari status -v`,
    );
  }

  /** Every pool, and every deployment that has none yet. */
  status(weightOf: (service: string, version: string) => number): PoolStatus[] {
    const { name } = this.#options;
    return [...this.#groups.values()].map((group) =>
      group.status(name, weightOf, (pool) => this.#pools.windowOf(pool)),
    );
  }

  /** The books of each pool, for the metrics. */
  poolStats(): {
    pool: string;
    service: string;
    version: string;
    stats: CallStats;
    restartsByReason: Partial<Record<RestartReason, number>>;
  }[] {
    return [...this.#groups.values()].map(({ id, deployment: { service, version }, pool, restartsByReason }) => ({
      pool: pool?.options.id ?? id,
      service,
      version,
      stats: pool?.stats ?? NO_CALLS,
      restartsByReason,
    }));
  }

  /** Pids of every chassis process there is now. */
  pids(): readonly number[] {
    return [...this.#groups.values()]
      .flatMap(({ allSlots }) => allSlots)
      .flatMap(({ processes }) => processes.map((one) => one.process.pid));
  }

  /** Finishes what is under way and ends every chassis, for good. What waits is refused, to be sent elsewhere. */
  async drain(why: string = 'the mesh is stopping'): Promise<void> {
    this.#isDraining = true;
    this.#turns.close();
    this.#pools.leave(`Manager ${this.#options.name} is leaving: ${why}`);
    await Promise.all([...this.#groups.values()].map((group) => group.drain(why)));
    await this.close();
  }

  /** Ends everything now. */
  async close(): Promise<void> {
    this.#isDraining = true;
    this.#turns.close();
    this.#pools.close('The mesh is stopping');
    await Promise.all([...this.#groups.values()].map((group) => group.close()));
    await this.#launcher.close();
  }

  #reconcile(why: string): void {
    if (this.#isDraining) return;
    const before = this.#wanted;
    this.#wanted = this.#wantedNow();
    for (const [id, deployment] of this.#wanted) this.#groupOf(deployment, id).want(deployment, why);
    for (const [id, group] of this.#groups) {
      if (this.#wanted.has(id)) continue;
      group.want({ ...group.deployment, count: 0 }, why);
      if (group.isEmpty) this.#groups.delete(id);
    }
    for (const id of before.keys()) {
      if (this.#queueMaxOf(id) === undefined)
        this.#pools.forget(id, `Manager ${this.#options.name} does not run ${id} any more: ${why}`);
    }
    this.#options.onPoolsChanged();
  }

  #wantedNow(): ReadonlyMap<string, Deployment> {
    const ordered = new Map(this.#said.order.map((one) => [deploymentId(one), one]));
    const ofFile = new Map(this.#said.file.map((one) => [deploymentId(one), one]));
    const overruled = new Set([...ordered.keys()].filter((id) => ofFile.has(id)));
    for (const id of overruled) {
      if (this.#overruled.has(id)) continue;
      const why = `ordered by the leader, and in the file of manager ${this.#options.name}: the file counts. Take it out of one of them`;
      this.#options.events.add('order_refused', id, why);
    }
    this.#overruled = overruled;
    const toRun = (one: Deployment): Deployment => (this.#isDrained ? { ...one, count: 0 } : one);
    return new Map([...ordered, ...[...ofFile].map(([id, one]) => [id, toRun(one)] as const)]);
  }

  #groupOf(deployment: Deployment, id: string): ReplicaSet {
    const found = this.#groups.get(id);
    if (found !== undefined) return found;
    const { events } = this.#options;
    const group: ReplicaSet = new ReplicaSet({
      deployment,
      events,
      turns: this.#turns,
      newSlot: (name, of) => this.#newSlot(group, name, of),
      onChanged: () => this.#onGroupChanged(group),
    });
    this.#groups.set(id, group);
    return group;
  }

  #newSlot(group: ReplicaSet, name: string, deployment: Deployment): Slot {
    return new Slot({
      name,
      deployment,
      clock: this.#options.clock,
      launch: (slot, of) => this.#launcher.launch(slot, of),
      admit: (incarnation) => this.#admit(incarnation, group),
      onPoolLeft: (pool) => this.#onPoolLeft(pool, group),
      report: (kind, slot, text, lines) => this.#report(kind, slot, group, text, lines),
      onRestart: (reason) => {
        group.restartsByReason[reason] = (group.restartsByReason[reason] ?? 0) + 1;
      },
    });
  }

  #admit(incarnation: ProcessInstance, { deployment }: ReplicaSet): ResourcePool {
    const { introduced } = incarnation;
    if (introduced === undefined)
      throw new KatamariError('internal', 'A chassis was admitted before it was introduced');
    return this.#pools.admit(introduced.details, introduced.interface, deployment.queueMax);
  }

  #onPoolLeft(pool: ResourcePool, group: ReplicaSet): void {
    if (group.slots.some((slot) => slot.pool === pool)) return;
    const { id } = pool.options;
    const why = group.slots.length > 0 ? 'its chassis have other details now' : 'no copy of it is to run here any more';
    this.#pools.remove(pool, `Pool ${id} is gone: ${why}`);
    if (!this.#isDraining) this.#options.events.add('pool_gone', id, why);
    this.#options.onPoolsChanged();
  }

  #onGroupChanged(group: ReplicaSet): void {
    if (group.isEmpty && !this.#wanted.has(group.id)) this.#groups.delete(group.id);
    this.#tellSoon();
  }

  #report(
    kind: 'starting' | 'ready' | 'ended' | 'backing_off' | 'refused',
    slot: Slot,
    group: ReplicaSet,
    text: string,
    lines: readonly string[],
  ): void {
    if (this.#isDraining && kind !== 'ended') return;
    const { events, onPoolsChanged } = this.#options;
    events.add(`resource_${kind}` satisfies EventKind, slot.name, text, lines);
    if (kind === 'ready' && group.isComplete && slot.pool !== undefined)
      events.add('pool_ready', slot.pool.options.id, `${group.slots.length} resources`);
    if (kind === 'ended' && slot.pool?.alive === 0 && !this.#isDraining)
      events.add('pool_empty', slot.pool.options.id, 'no resource is alive; calls wait');
    if (kind === 'ready') onPoolsChanged();
    if (kind === 'ended') this.#tellSoon();
  }

  /** Calls that may wait for what is to run here; undefined when it is not. */
  #queueMaxOf(id: string): number | undefined {
    const wanted = this.#wanted.get(id);
    return wanted === undefined || wanted.count === 0 ? undefined : wanted.queueMax;
  }

  /** What changes together is told together. */
  #tellSoon(): void {
    if (this.#isTellingSoon) return;
    this.#isTellingSoon = true;
    queueMicrotask(() => {
      this.#isTellingSoon = false;
      this.#options.onPoolsChanged();
    });
  }
}

const NO_CALLS: CallStats = new CallStats();
