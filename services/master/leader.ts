// Acts on the wanted state while this master leads: gives each manager its order under `assignments/<manager>`, and
// changes it when
import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import { ConsulError, pause, type ConsulClient, type WatchStats } from '../consul/mod.ts';
import {
  deploymentId,
  keysOf,
  poolSetOf,
  type AssignmentRecord,
  type Deployment,
  type EventLog,
  type ManagerRecord,
  type PoolSetEntry,
} from '../mesh/mod.ts';
import { assign, type ManagerView } from './assign.ts';
import { DesiredStateBackup } from './desired-state-backup.ts';
import type { Election, WriteOutcome } from './election.ts';
import { MeshView } from './mesh-view.ts';
import { nextStep } from './rollout-step.ts';

// deployments, managers or what lives have changed. It starts and stops nothing itself and speaks to no manager;
// Consul is the only way.
//
// Every order is written with the fence of the election and only over the one it was thought out for. A new leader
// puts its term on all orders, since managers that saw its lock refuse older ones. A manager that is missing counts
// as there for a moment, longer after an outage of Consul, when all of them come back one by one; then the others get
// its copies, and its old order stays for it to run by, should it live where no leader reaches it, until it comes
// back and gets a fresh one.

import { isDeepStrictEqual } from 'node:util';

export interface LeaderOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Of this process. */
  readonly name: string;
  readonly election: Election;
  /** Where it remembers what was wanted. */
  readonly dataDir: string;
  readonly events: EventLog;
  /** Told of each failed try; it goes on. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** A manager that is missing counts as there for so long. */
  readonly graceMs?: number;
  /** The same, counted from when Consul failed last or this process began. */
  readonly settleMs?: number;
}

const GATHER_MS = 50;
const GRACE_MS = 2_000;
const SETTLE_MS = 15_000;
/** The order of a manager that is gone is kept so long. */
const KEEP_MS = 3_600_000;
/**
 * Consul takes 512 KiB in one transaction, in which a value is a third longer than it is.
 */
const ORDER_BYTES_MAX = 390_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;

export class Leader {
  readonly #options: LeaderOptions;
  readonly #clock: Clock;
  readonly #view: MeshView;
  readonly #memory: DesiredStateBackup;
  readonly #backoff: Backoff;
  readonly #end = new AbortController();
  /** What is known of managers that are missing; undefined record: it was never seen, only its order. */
  readonly #missing = new Map<string, { readonly sinceMs: number; readonly record: ManagerRecord | undefined }>();
  #lastManagers: ReadonlyMap<string, ManagerRecord> = new Map();
  /** Term for which everything was read anew. */
  #readTerm: number | undefined;
  /** Complaints that stand, by subject, to be made once. */
  readonly #complaints = new Map<string, string>();
  #wake: () => void = () => undefined;
  #stopWaiting: () => void = () => undefined;
  #stopListening: () => void = () => undefined;
  #running: Promise<void> | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random });
    const { client, mesh, events } = options;
    const onError = (error: ConsulError): void => options.onError?.(error);
    const common = { client, mesh, events, clock: this.#clock, onError };
    this.#view = new MeshView({ ...common, onChange: () => this.#changed() });
    this.#memory = new DesiredStateBackup({ ...common, dataDir: options.dataDir });
  }

  /** The pools of the mesh: the same on every master. */
  pools(): PoolSetEntry[] {
    return poolSetOf(this.#view.managers);
  }

  /** Of its watches. */
  stats(): readonly WatchStats[] {
    return this.#view.stats();
  }

  /** Follows what there is, and acts whenever the election says that this process leads. */
  start(): void {
    if (this.#running !== undefined) return;
    this.#stopListening = this.#options.election.listen(() => this.#wake());
    this.#view.start();
    this.#running = this.#memory.start().then(() => this.#run());
  }

  async close(): Promise<void> {
    this.#end.abort();
    this.#stopListening();
    this.#stopWaiting();
    this.#view.close();
    this.#wake();
    await this.#memory.close();
    await this.#running;
  }

  /** Followers too know who is missing and since when. */
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
        // What changes together is looked at together.
        await pause(this.#clock, GATHER_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ConsulError)) throw error;
        this.#readTerm = undefined;
        this.#options.onError?.(error);
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
  }

  /** One look at everything, and the orders that follow from it. */
  async #act(term: number): Promise<void> {
    if (this.#readTerm !== term) {
      if (!(await this.#memory.restore(this.#options.election, term))) return;
      await this.#view.refresh(this.#end.signal);
      this.#readTerm = term;
      this.#changed();
    }
    const there = this.#there();
    if (there === undefined) return;
    const { drained, orders, managers } = this.#view;
    const views: ManagerView[] = [...there].map(([name, { machine, capacity, isDraining }]) => {
      return { name, machine, capacity, isDrained: isDraining || drained.has(name) };
    });
    const wanted = this.#wanted(there);
    const alive = new Map([...there.keys()].map((name) => [name, aliveOf(managers.get(name))]));
    const current = new Map(
      [...there].map(([name, manager]): [string, ReadonlyMap<string, number>] => {
        const record = orders.get(name)?.record;
        // Without an order a manager goes on with what it was told once; so it is when Consul came back without its
        // data.
        return [name, record === undefined ? aliveOf(manager) : countsOf(record.deployments)];
      }),
    );
    const target = assign(wanted, views, current);
    this.#complain(
      'assigned',
      '',
      wanted.size > 0 && views.every(({ isDrained }) => isDrained) ? nobodyRuns(wanted, views.length) : undefined,
    );
    const next = nextStep(target, current, alive);
    for (const [name, counts] of next) {
      const list = [...counts].flatMap(([id, count]) => {
        const deployment =
          wanted.get(id) ?? orders.get(name)?.record?.deployments.find((one) => deploymentId(one) === id);
        return deployment === undefined ? [] : [{ ...deployment, count }];
      });
      list.sort((a, b) => (deploymentId(a) < deploymentId(b) ? -1 : 1));
      if (!(await this.#order(term, name, list))) return;
    }
    await this.#forget(term);
  }

  /** Managers that count as there; undefined while it is too early to say. */
  #there(): ReadonlyMap<string, ManagerRecord> | undefined {
    const { graceMs = GRACE_MS, settleMs = SETTLE_MS } = this.#options;
    const there = new Map(this.#view.managers);
    const nowMs = this.#clock.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    let isEarly = false;
    for (const [name, { sinceMs, record }] of this.#missing) {
      const goneMs = Math.max(sinceMs + graceMs, this.#view.troubledAtMs + settleMs);
      if (goneMs > nowMs) {
        nextMs = Math.min(nextMs, goneMs);
        // How large it is and where, nobody knows.
        if (record === undefined) isEarly = true;
        else there.set(name, record);
      } else if (this.#view.orders.has(name)) nextMs = Math.min(nextMs, Math.max(goneMs, sinceMs + KEEP_MS));
    }
    this.#stopWaiting();
    if (nextMs < Number.POSITIVE_INFINITY) this.#stopWaiting = this.#clock.after(nextMs - nowMs, () => this.#wake());
    return isEarly ? undefined : there;
  }

  /** Deployments, and those that cannot be read as they were ordered. */
  #wanted(there: ReadonlyMap<string, ManagerRecord>): ReadonlyMap<string, Deployment> {
    const wanted = new Map(this.#view.deployments);
    for (const name of there.keys()) {
      for (const deployment of this.#view.orders.get(name)?.record?.deployments ?? []) {
        const id = deploymentId(deployment);
        if (!this.#view.unreadable.has(id)) continue;
        wanted.set(id, { ...deployment, count: deployment.count + (wanted.get(id)?.count ?? 0) });
      }
    }
    return wanted;
  }

  /**
   * Writes an order where it differs. False when this process leads no more, or Consul has something else than was
   * thought.
   */
  async #order(term: number, manager: string, deployments: readonly Deployment[]): Promise<boolean> {
    const { election, events, mesh, name } = this.#options;
    const before = this.#view.orders.get(manager);
    const isSame =
      before === undefined
        ? // Nothing is wanted of anybody: who has no order needs none. (A Consul that came back empty must end
          // nothing.)
          deployments.length === 0 && this.#view.deployments.size === 0
        : before.record?.term === term && isDeepStrictEqual(before.record.deployments, deployments);
    if (isSame) return true;
    const record: AssignmentRecord = { term, leader: name, deployments };
    const value = JSON.stringify(record);
    const bytes = Buffer.byteLength(value);
    const isTooLarge = bytes > ORDER_BYTES_MAX;
    this.#complain('order_refused', manager, isTooLarge ? tooLarge(manager, bytes, deployments.length) : undefined);
    if (isTooLarge) return true;
    const key = `${keysOf(mesh).assignments}${manager}`;
    const steps = [{ verb: 'cas', key, value, index: before?.modifyIndex ?? 0 }] as const;
    const outcome = await election.write(term, steps, this.#end.signal);
    if (outcome.kind !== 'done') return this.#isHindered(outcome);
    this.#view.ordered(manager, { modifyIndex: outcome.index, record });
    // A new term alone is no news.
    if (!isDeepStrictEqual(before?.record?.deployments, deployments)) {
      const what = deployments.map((one) => `${one.count} x ${deploymentId(one)}`).join(', ');
      events.add('assigned', manager, what === '' ? 'nothing' : what);
    }
    return true;
  }

  /** Deletes the orders of managers that are gone for long. */
  async #forget(term: number): Promise<void> {
    const { election, mesh } = this.#options;
    for (const [name, { sinceMs }] of this.#missing) {
      if (this.#clock.nowMs() - sinceMs < KEEP_MS) continue;
      const order = this.#view.orders.get(name);
      if (order !== undefined) {
        const key = `${keysOf(mesh).assignments}${name}`;
        const steps = [{ verb: 'delete-cas', key, index: order.modifyIndex }] as const;
        const outcome = await election.write(term, steps, this.#end.signal);
        if (outcome.kind !== 'done') {
          this.#isHindered(outcome);
          return;
        }
        this.#view.ordered(name, undefined);
      }
      this.#missing.delete(name);
    }
  }

  #isHindered(outcome: Exclude<WriteOutcome, { kind: 'done' }>): false {
    // Somebody else wrote there: everything is read anew, in a moment.
    this.#readTerm = undefined;
    if (outcome.kind === 'conflict') this.#wake();
    return false;
  }

  /** Says what is wrong once, and again when it is another thing; undefined takes it back. */
  #complain(kind: 'assigned' | 'order_refused', subject: string, text: string | undefined): void {
    const about = `${kind} ${subject}`;
    if (this.#complaints.get(about) === text) return;
    if (text === undefined) this.#complaints.delete(about);
    else {
      this.#complaints.set(about, text);
      this.#options.events.add(kind, subject, text);
    }
  }
}

function countsOf(deployments: readonly Deployment[]): Map<string, number> {
  return new Map(deployments.map((deployment) => [deploymentId(deployment), deployment.count]));
}

/** Copies that live in a manager, by deployment. */
function aliveOf(manager: ManagerRecord | undefined): Map<string, number> {
  const alive = new Map<string, number>();
  for (const pool of manager?.pools ?? [])
    alive.set(deploymentId(pool), (alive.get(deploymentId(pool)) ?? 0) + pool.alive);
  return alive;
}

function nobodyRuns(wanted: ReadonlyMap<string, Deployment>, managers: number): string {
  const what = [...wanted].map(([id, { count }]) => `${count} x ${id}`).join(', ');
  const why =
    managers === 0
      ? 'no manager is there: start one (katamari manager)'
      : `each of the ${managers} managers is drained: end the drain of one`;
  return `Cannot assign ${what}: ${why}`;
}

function tooLarge(manager: string, bytes: number, count: number): string {
  return (
    `The order for ${manager} has ${bytes} bytes in ${count} deployments, limit is ${ORDER_BYTES_MAX}, and was not written; its last one stays. ` +
    'Start more managers, or give the chassis the SDK, which hands over the interface itself, instead of an IDL in the deployment'
  );
}
