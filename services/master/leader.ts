// Reconciles the mesh with the desired state while this master leads: it writes an order for each manager to
// `assignments/<manager>` and updates it when deployments, managers or live copies change. It starts no processes
// and talks to managers only through Consul.
//
// Every order is written with the fence of the election and a check-and-set against the order that it is based on. A
// new leader puts its term on all orders, because managers that saw its lock refuse older terms. A missing manager
// counts as present for a grace period, and for longer after a Consul outage, when managers reconnect one by one.
// Then the other managers get its copies. Its old order stays in Consul, so that a manager that is only cut off from
// the leader keeps running, until it returns and gets a new order.

import { systemClock, type Clock, Backoff, mustNotFail } from '../../core/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import { ConsulError, pause, type ConsulClient, type WatchStats } from '../consul/mod.ts';
import {
  deploymentId,
  keysOf,
  poolSetOf,
  type AssignmentRecord,
  type Deployment,
  ManifestCache,
  type EventLog,
  type ManagerRecord,
  type PoolSetEntry,
  type Rollout,
  type ShardsOrder,
} from '../mesh/mod.ts';
import { assign, type ManagerView } from './assign.ts';
import { DesiredStateBackup } from './desired-state-backup.ts';
import type { Election } from './election.ts';
import type { WriteOutcome } from './fenced-write.ts';
import { ManifestCollector } from './manifest-collector.ts';
import { ManifestStore } from './manifest-store.ts';
import { hasProgress, recordProgress } from './index-progress.ts';
import { MeshView } from './mesh-view.ts';
import { ProblemLog } from './problem-log.ts';
import { nextStep } from './rollout-step.ts';
import { RolloutLeader, type ObserveVersions } from './rollouts.ts';
import { ShardPlanner, type ShardPlan } from './shard-planner.ts';
import { signAgain } from './sign-again.ts';
import { isDeepStrictEqual } from 'node:util';

export interface LeaderOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of this process. */
  readonly name: string;
  readonly election: Election;
  /** Directory for the backup of the desired state. */
  readonly dataDir: string;
  readonly events: EventLog;
  /** Gets a line for each order. */
  readonly audit?: AuditLog;
  /** Called after each failed attempt; the leader retries. */
  readonly onError?: (error: ConsulError) => void;
  /** Counts the calls of versions, for the guards of rollouts. */
  readonly observe?: ObserveVersions;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Time for which a missing manager counts as present. */
  readonly graceMs?: number;
  /** Time after the last Consul error, or the start of this process, in which missing managers count as present. */
  readonly settleMs?: number;
  /** Time for which a new leader waits for other masters before it restores a backup; they find Consul again too. */
  readonly othersMs?: number;
}

const BATCH_MS = 50;
const GRACE_MS = 2_000;
const SETTLE_MS = 15_000;
const OTHERS_MS = 3_000;
/** The order of a missing manager is deleted after this time. */
const ORDER_KEEP_MS = 3_600_000;
/** Consul accepts 512 KiB per transaction, and base64 makes a value a third longer. */
const ORDER_BYTES_MAX = 390_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;

export class Leader {
  readonly #options: LeaderOptions;
  readonly #clock: Clock;
  readonly #view: MeshView;
  readonly #backup: DesiredStateBackup;
  readonly #problems: ProblemLog;
  readonly #shards: ShardPlanner;
  readonly #manifests: ManifestCollector;
  readonly #rollouts: RolloutLeader;
  readonly #backoff: Backoff;
  readonly #end = new AbortController();
  /** Missing managers; `record` is undefined if only the order of a manager was ever seen. */
  readonly #missing = new Map<string, { readonly sinceMs: number; readonly record: ManagerRecord | undefined }>();
  #lastManagers: ReadonlyMap<string, ManagerRecord> = new Map();
  /** Term for which all state was read again. */
  #readTerm: number | undefined;
  /** Whether documents may have a signature of an older secret. */
  #mustSign = false;
  #wake: () => void = () => undefined;
  #stopWaiting: () => void = () => undefined;
  #stopListening: () => void = () => undefined;
  #running: Promise<void> | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random });
    const { client, mesh, events, audit, name } = options;
    const onError = (error: ConsulError): void => options.onError?.(error);
    this.#problems = new ProblemLog(events);
    this.#shards = new ShardPlanner({
      manifests: new ManifestCache({ client, mesh, folder: '' }),
      problems: this.#problems,
      clock: this.#clock,
      onDue: () => this.#wake(),
    });
    this.#manifests = new ManifestCollector({
      manifests: new ManifestStore(options),
      election: options.election,
      events,
      clock: this.#clock,
      onDue: () => this.#wake(),
    });
    const common = { client, mesh, events, clock: this.#clock, onError };
    this.#view = new MeshView({ ...common, onChange: () => this.#changed() });
    const { election, observe } = options;
    const term = (): number | undefined => (this.#readTerm === election.term ? this.#readTerm : undefined);
    this.#rollouts = new RolloutLeader({ ...common, name, audit, election, observe, view: this.#view, term });
    this.#backup = new DesiredStateBackup({
      ...common,
      dataDir: options.dataDir,
      onChange: () => this.#wake(),
      offer: (revision) => options.election.offerBackup(revision),
      othersMs: options.othersMs ?? OTHERS_MS,
      onRestored: (subject, after) =>
        audit?.record({ who: 'leader', from: name, action: 'restore', subject, result: 'done', before: null, after }),
    });
  }

  /** Returns the pools of the mesh; every master returns the same. */
  pools(): PoolSetEntry[] {
    return poolSetOf(this.#view.managers);
  }

  /** The last rollout of each service; every master knows them. */
  rollouts(): Iterable<Rollout> {
    return this.#view.rollouts.values();
  }

  /** Statistics of the watches. */
  stats(): readonly WatchStats[] {
    return this.#view.stats();
  }

  /** Follows the state in Consul, and acts while the election says that this process leads. */
  start(): void {
    if (this.#running !== undefined) return;
    this.#stopListening = this.#options.election.listen(() => this.#wake());
    this.#view.start();
    this.#rollouts.start();
    this.#running = this.#backup.start().then(() => this.#run());
    mustNotFail('the leader', this.#running);
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.#stopListening();
    this.#stopWaiting();
    this.#shards.close();
    this.#manifests.close();
    this.#view.close();
    this.#wake();
    await this.#rollouts.close();
    await this.#backup.close();
    await this.#running;
  }

  /** Called when the secret of the mesh has changed: the leader signs its documents again. */
  renewSignatures(): void {
    this.#mustSign = true;
    this.#wake();
  }

  /** Tracks missing managers, on followers too, so that a new leader knows since when. */
  #changed(): void {
    const { managers, orders } = this.#view;
    for (const [name, record] of this.#lastManagers) {
      if (!managers.has(name)) this.#missing.set(name, { sinceMs: this.#clock.nowMs(), record });
    }
    for (const name of orders.keys()) {
      if (!managers.has(name) && !this.#missing.has(name)) {
        this.#missing.set(name, { sinceMs: this.#clock.nowMs(), record: undefined });
      }
    }
    for (const name of managers.keys()) this.#missing.delete(name);
    this.#lastManagers = managers;
    this.#wake();
    this.#rollouts.wake();
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      try {
        const { term } = this.#options.election;
        if (term !== undefined) await this.#act(term);
        this.#backoff.reset();
        await woken;
        // Handle changes that arrive together in one pass.
        await pause(this.#clock, BATCH_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ConsulError)) throw error;
        this.#readTerm = undefined;
        this.#options.onError?.(error);
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
  }

  /** One reconciliation: reads the state and writes the orders that follow. */
  async #act(term: number): Promise<void> {
    if (this.#readTerm !== term) {
      if (!(await this.#backup.restore(this.#options.election, term))) return;
      this.#mustSign = true;
      await this.#view.refresh(this.#end.signal);
      this.#readTerm = term;
      this.#changed();
      this.#rollouts.wake();
    }
    if (this.#mustSign) {
      this.#mustSign = false;
      const signed = await signAgain(this.#options.client, this.#end.signal);
      if (signed > 0)
        this.#options.events.add('credentials_changed', 'Consul', `${signed} documents signed with the new secret`);
    }
    const present = this.#present();
    if (present === undefined) return;
    const { drained, orders, managers } = this.#view;
    const views: ManagerView[] = [...present].map(([name, { machine, capacity, isDraining }]) => {
      return { name, machine, capacity, isDrained: isDraining || drained.has(name) };
    });
    const desired = this.#desired(present);
    const alive = new Map([...present.keys()].map((name) => [name, aliveOf(managers.get(name))]));
    const current = new Map(
      [...present].map(([name, manager]): [string, ReadonlyMap<string, number>] => {
        const record = orders.get(name)?.record;
        // A manager without an order keeps running its previous copies, for example after Consul lost its data.
        return [name, record === undefined ? aliveOf(manager) : countsOf(record.deployments)];
      }),
    );
    const target = assign(desired, views, current);
    this.#problems.report(
      'assigned',
      '',
      desired.size > 0 && views.every(({ isDrained }) => isDrained) ? noManagerText(desired, views.length) : undefined,
    );
    const next = nextStep(target, current, alive);
    const plan = await this.#shards.plan(this.#view, present, this.#end.signal);
    for (const [name, counts] of next) {
      const list = [...counts].flatMap(([id, count]) => {
        const deployment =
          desired.get(id) ?? orders.get(name)?.record?.deployments.find((one) => deploymentId(one) === id);
        return deployment === undefined ? [] : [{ ...deployment, count }];
      });
      list.sort((a, b) => (deploymentId(a) < deploymentId(b) ? -1 : 1));
      if (!(await this.#order(term, name, list, plan.orders.get(name) ?? orders.get(name)?.record?.shards))) return;
    }
    await this.#deleteOldOrders(term);
    await this.#recordProgress(term, plan.served);
    await this.#collectManifests(term);
  }

  /** Records that an index version is whole for the first time, and gives it the calls when it has enough replicas. */
  async #recordProgress(term: number, served: ShardPlan['served']): Promise<void> {
    for (const [id, fewest] of served) {
      const record = this.#view.indices.get(id);
      if (record === undefined || !hasProgress(record, fewest)) continue;
      const outcome = await recordProgress(this.#options, { term, id, fewest }, this.#end.signal);
      if (outcome.kind === 'stale') return void this.#scheduleReread(outcome);
      if (outcome.kind === 'conflict') this.#wake();
    }
  }

  async #collectManifests(term: number): Promise<void> {
    const stored = this.#backup.namesBelow(keysOf(this.#options.mesh).manifests);
    const used = new Set([...this.#view.indices.values()].map(({ manifest }) => manifest));
    const outcome = await this.#manifests.collect(term, { stored, used }, this.#end.signal);
    if (outcome === 'stale') this.#scheduleReread({ kind: 'stale' });
  }

  /**
   * Returns the managers that count as present. Returns undefined while a manager with an order may still be
   * reconnecting.
   */
  #present(): ReadonlyMap<string, ManagerRecord> | undefined {
    const { graceMs = GRACE_MS, settleMs = SETTLE_MS } = this.#options;
    const present = new Map(this.#view.managers);
    const nowMs = this.#clock.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    let isWaiting = false;
    for (const [name, { sinceMs, record }] of this.#missing) {
      const expiresAtMs = Math.max(sinceMs + graceMs, this.#view.lastErrorAtMs + settleMs);
      if (expiresAtMs > nowMs) {
        nextMs = Math.min(nextMs, expiresAtMs);
        // Its capacity and machine are unknown.
        if (record === undefined) isWaiting = true;
        else present.set(name, record);
      } else if (this.#view.orders.has(name)) nextMs = Math.min(nextMs, Math.max(expiresAtMs, sinceMs + ORDER_KEEP_MS));
    }
    this.#stopWaiting();
    if (nextMs < Number.POSITIVE_INFINITY) this.#stopWaiting = this.#clock.after(nextMs - nowMs, () => this.#wake());
    return isWaiting ? undefined : present;
  }

  /** Returns the desired deployments. For a deployment with an invalid document, it uses the current orders. */
  #desired(present: ReadonlyMap<string, ManagerRecord>): ReadonlyMap<string, Deployment> {
    const desired = new Map(this.#view.deployments);
    for (const name of present.keys()) {
      for (const deployment of this.#view.orders.get(name)?.record?.deployments ?? []) {
        const id = deploymentId(deployment);
        if (!this.#view.unreadable.has(id)) continue;
        desired.set(id, { ...deployment, count: deployment.count + (desired.get(id)?.count ?? 0) });
      }
    }
    return desired;
  }

  /**
   * Writes an order if it differs from the current one. Returns false if this process no longer leads or the order
   * changed in Consul.
   */
  async #order(
    term: number,
    manager: string,
    deployments: readonly Deployment[],
    shards: readonly ShardsOrder[] | undefined,
  ): Promise<boolean> {
    const { election, events, mesh, name } = this.#options;
    const before = this.#view.orders.get(manager);
    const isSame =
      before === undefined
        ? // Without deployments, a manager without an order needs none. (An empty Consul must not stop running
          // copies.)
          deployments.length === 0 && this.#view.deployments.size === 0 && (shards ?? []).length === 0
        : before.record?.term === term && isSameOrder(before.record, deployments, shards);
    if (isSame) return true;
    const record: AssignmentRecord = { term, leader: name, deployments, ...(shards === undefined ? {} : { shards }) };
    const value = JSON.stringify(record);
    const bytes = Buffer.byteLength(value);
    const isTooLarge = bytes > ORDER_BYTES_MAX;
    this.#problems.report(
      'order_refused',
      manager,
      isTooLarge ? tooLargeText(manager, bytes, deployments.length) : undefined,
    );
    if (isTooLarge) return true;
    const key = `${keysOf(mesh).assignments}${manager}`;
    const steps = [{ verb: 'cas', key, value, index: before?.modifyIndex ?? 0 }] as const;
    const outcome = await election.write(term, steps, this.#end.signal);
    if (outcome.kind !== 'done') return this.#scheduleReread(outcome);
    this.#view.recordOrder(manager, { modifyIndex: outcome.index, record });
    // A change of the term alone is not an event.
    if (before?.record === undefined || !isSameOrder(before.record, deployments, shards)) {
      const what = [
        ...deployments.map((one) => `${one.count} x ${deploymentId(one)}`),
        ...(shards ?? []).map((one) => `shards ${one.places} of ${one.indexVersion}`),
      ].join(', ');
      events.add('assigned', manager, what === '' ? 'nothing' : what);
      this.#record(manager, before?.record, record);
    }
    return true;
  }

  /** Deletes the orders of managers that have been missing for ORDER_KEEP_MS. */
  async #deleteOldOrders(term: number): Promise<void> {
    const { election, mesh } = this.#options;
    for (const [name, { sinceMs }] of this.#missing) {
      if (this.#clock.nowMs() - sinceMs < ORDER_KEEP_MS) continue;
      const order = this.#view.orders.get(name);
      if (order !== undefined) {
        const key = `${keysOf(mesh).assignments}${name}`;
        const steps = [{ verb: 'delete-cas', key, index: order.modifyIndex }] as const;
        const outcome = await election.write(term, steps, this.#end.signal);
        if (outcome.kind !== 'done') {
          this.#scheduleReread(outcome);
          return;
        }
        this.#view.recordOrder(name, undefined);
        this.#record(name, order.record, undefined);
      }
      this.#missing.delete(name);
    }
  }

  /**
   * Adds the order to the audit log: copies by deployment, and places of shards by index version. The documents are in
   * the lines of their deployments.
   */
  #record(manager: string, before: AssignmentRecord | undefined, after: AssignmentRecord | undefined): void {
    const copies = (order: AssignmentRecord | undefined): unknown =>
      order === undefined
        ? null
        : Object.fromEntries<unknown>([
            ...countsOf(order.deployments),
            ...(order.shards ?? []).map(({ indexVersion, places }) => [indexVersion, places] as const),
          ]);
    const { audit, name } = this.#options;
    audit?.record({
      who: 'leader',
      from: name,
      action: 'assign',
      subject: manager,
      result: 'done',
      before: copies(before),
      after: copies(after),
    });
  }

  #scheduleReread(outcome: Exclude<WriteOutcome, { kind: 'done' }>): false {
    // Another client wrote the key. Read everything again soon.
    this.#readTerm = undefined;
    if (outcome.kind === 'conflict') this.#wake();
    return false;
  }
}

function isSameOrder(
  record: AssignmentRecord,
  deployments: readonly Deployment[],
  shards: readonly ShardsOrder[] | undefined,
): boolean {
  return isDeepStrictEqual(record.deployments, deployments) && isDeepStrictEqual(record.shards, shards);
}

function countsOf(deployments: readonly Deployment[]): Map<string, number> {
  return new Map(deployments.map((deployment) => [deploymentId(deployment), deployment.count]));
}

/** Live copies of a manager by deployment. */
function aliveOf(manager: ManagerRecord | undefined): Map<string, number> {
  const alive = new Map<string, number>();
  for (const pool of manager?.pools ?? [])
    alive.set(deploymentId(pool), (alive.get(deploymentId(pool)) ?? 0) + pool.alive);
  return alive;
}

function noManagerText(desired: ReadonlyMap<string, Deployment>, managers: number): string {
  const what = [...desired].map(([id, { count }]) => `${count} x ${id}`).join(', ');
  const why =
    managers === 0
      ? 'no manager is running; start one (katamari manager)'
      : `all managers (${managers}) are drained; undrain one (katamari undrain)`;
  return `Cannot assign ${what}: ${why}`;
}

function tooLargeText(manager: string, bytes: number, count: number): string {
  return (
    `The order for ${manager} has ${bytes} bytes in ${count} deployments, limit is ${ORDER_BYTES_MAX}. It was not written, and the previous order stays. ` +
    'Start more managers, or use the SDK in the chassis, which sends the interface itself, instead of an IDL in the deployment'
  );
}
