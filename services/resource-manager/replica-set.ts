// The replicas of one deployment on this machine. It always converges to the last desired state: it starts missing
// slots, drains surplus ones (slots that do not serve go first), and rolls slots with an old deployment to the new
// one, one at a time. An old chassis ends only after its replacement is ready. A replacement that does not come up
// stops the rolling restart: the other slots stay as they are until the deployment changes again or an operator asks
// for a restart.

import { KatamariError } from '../../core/mod.ts';
import { CallStats, type PoolStatus, type ResourceStatus, type RestartReason } from '../../core/rpc/mod.ts';
import { deploymentId, type Deployment, type EventLog } from '../mesh/mod.ts';
import { PermanentFault } from './permanent-fault.ts';
import type { ResourcePool } from './pool.ts';
import type { RateWindow } from './rate-window.ts';
import type { Slot } from './slot.ts';
import type { StartLimiter } from './start-limiter.ts';

export interface ReplicaSetOptions {
  readonly deployment: Deployment;
  readonly events: EventLog;
  readonly starts: StartLimiter;
  readonly newSlot: (name: string, deployment: Deployment) => Slot;
  /** Called when slots were added, removed, or changed their deployment. */
  readonly onChanged: () => void;
}

export class ReplicaSet {
  readonly #options: ReplicaSetOptions;
  /** `Service@version` */
  readonly id: string;
  readonly restartsByReason: Partial<Record<RestartReason, number>> = {};
  /** The desired deployment of each slot. The desired number of slots is `#slots.length`. */
  #deployment: Deployment;
  #spec: string;
  #slots: readonly Slot[] = [];
  /** Surplus slots that still drain. */
  readonly #leaving = new Map<Slot, Promise<void>>();
  /** Slots whose chassis must be replaced. */
  readonly #stale = new Set<Slot>();
  #rolling: Promise<number> | undefined;
  #isClosed = false;

  constructor(options: ReplicaSetOptions) {
    this.#options = options;
    this.id = deploymentId(options.deployment);
    this.#deployment = options.deployment;
    this.#spec = specOf(options.deployment);
  }

  /** The desired deployment of each slot. Its `count` may be outdated; use `slots.length`. */
  get deployment(): Deployment {
    return this.#deployment;
  }

  /** Slots that are part of the desired state. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** The desired slots and the surplus slots that still drain. */
  get allSlots(): readonly Slot[] {
    return [...this.#slots, ...this.#leaving.keys()];
  }

  /** True when every desired slot serves. */
  get isComplete(): boolean {
    return this.#slots.every((slot) => slot.isServing);
  }

  get isEmpty(): boolean {
    return this.#slots.length === 0 && this.#leaving.size === 0;
  }

  get pool(): ResourcePool | undefined {
    // A slot that does not serve keeps the pool of its last chassis, which may be gone.
    const serving = this.#slots.find((slot) => slot.isServing);
    return serving?.pool ?? this.#slots.find((slot) => slot.pool !== undefined)?.pool;
  }

  /** Why no replica can start until something changes; '' while one serves or may come up. */
  get failure(): string {
    const states = this.#slots.map((slot) => slot.status());
    const hasFailed = states.length > 0 && states.every(({ state }) => state === 'failed');
    return hasFailed ? (states[0]?.note ?? '') || 'see katamari status' : '';
  }

  /** Sets the desired deployment and number of replicas, and converges to it. Idempotent. */
  setDesired(deployment: Deployment, why: string): void {
    const countBefore = this.#slots.length;
    const spec = specOf(deployment);
    const hasChanged = spec !== this.#spec;
    if (hasChanged) {
      this.#spec = spec;
      // A change back to the deployment that some slots still run leaves those slots alone.
      this.#deployment = this.#slots.find((slot) => specOf(slot.deployment) === spec)?.deployment ?? deployment;
    }
    this.#shrinkTo(deployment.count, why);
    if (hasChanged) this.#changeSlots();
    this.#growTo(deployment.count);
    const { events, onChanged } = this.#options;
    if (deployment.count !== countBefore && countBefore > 0)
      events.add('deployment_changed', this.id, `${countBefore} -> ${deployment.count} copies: ${why}`);
    if (hasChanged && countBefore > 0 && deployment.count > 0)
      events.add('deployment_changed', this.id, `${why}; chassis with the old deployment are replaced one at a time`);
    if (hasChanged || deployment.count !== countBefore) onChanged();
  }

  /**
   * Replaces every chassis, one at a time. An old chassis drains after its replacement is ready.
   * @returns number of replaced chassis
   * @throws KatamariError when a replacement does not come up; the other chassis stay as they are
   */
  async roll(): Promise<number> {
    for (const slot of this.#slots) this.#stale.add(slot);
    return await this.#roll();
  }

  /** Lets running calls finish, then stops every chassis. */
  async drain(why: string): Promise<void> {
    this.#isClosed = true;
    this.#shrinkTo(0, why);
    await Promise.all(this.#leaving.values());
  }

  /** Kills every chassis now. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stale.clear();
    await Promise.all(this.allSlots.map((slot) => slot.close()));
  }

  status(
    manager: string,
    weightOf: (service: string, version: string) => number,
    windowOf: (pool: ResourcePool | undefined) => RateWindow | undefined,
  ): PoolStatus {
    const { service, version, roles, tags, queueMax } = this.#deployment;
    const { pool } = this;
    const stats = pool?.stats ?? NO_CALLS;
    const window = windowOf(pool);
    const resources = this.allSlots.map((slot) => slot.status());
    return {
      id: pool?.options.id ?? this.id,
      service,
      version,
      roles: pool?.options.details.roles ?? roles,
      tags: pool?.options.details.tags ?? tags,
      interfaceId: pool?.options.interface.id ?? '',
      manager,
      wanted: this.#slots.length,
      alive: resources.filter(({ state }) => state === 'idle' || state === 'busy').length,
      free: pool?.free ?? 0,
      queued: pool?.queued ?? 0,
      queueMax,
      weight: weightOf(service, version),
      calls: stats.accepted,
      errors: stats.failed + stats.refused + stats.timed_out + stats.cancelled,
      ratePerS: window?.ratePerS() ?? 0,
      p50Ms: window?.totalMs(0.5) ?? null,
      p99Ms: window?.totalMs(0.99) ?? null,
      queueP99Ms: window?.queueMs(0.99) ?? null,
      restartsByReason: { ...this.restartsByReason },
      resources,
      suspects: pool?.suspects.list() ?? [],
      note: noteOf(resources, this.#slots.length),
    };
  }

  /** Drains surplus slots: first those that do not serve, then the highest numbers. */
  #shrinkTo(count: number, why: string): void {
    if (this.#slots.length <= count) return;
    const servingFirst = [...this.#slots].sort((a, b) => Number(b.isServing) - Number(a.isServing));
    const kept = new Set(servingFirst.slice(0, count));
    const gone = this.#slots.filter((slot) => !kept.has(slot));
    // Remove the slots before they drain: a pool is removed once no slot of the set uses it.
    this.#slots = this.#slots.filter((slot) => kept.has(slot));
    for (const slot of gone) {
      this.#options.starts.remove(slot);
      this.#stale.delete(slot);
      const drained = slot.drain(why).then(() => {
        this.#leaving.delete(slot);
        this.#options.onChanged();
      });
      this.#leaving.set(slot, drained);
    }
  }

  #growTo(count: number): void {
    const taken = new Set(this.allSlots.map(({ name }) => name));
    const added: Slot[] = [];
    for (let n = 1; this.#slots.length + added.length < count; n++) {
      const name = `${this.id}/${n}`;
      if (!taken.has(name)) added.push(this.#options.newSlot(name, this.#deployment));
    }
    this.#slots = [...this.#slots, ...added];
    this.#options.starts.add(added);
  }

  #changeSlots(): void {
    this.#stale.clear();
    const adopted: Slot[] = [];
    for (const slot of this.#slots) {
      if (slot.deployment === this.#deployment) slot.cancelOtherReplacement(this.#deployment);
      else if (slot.adopt(this.#deployment)) adopted.push(slot);
      else {
        slot.cancelOtherReplacement(this.#deployment);
        this.#stale.add(slot);
      }
    }
    this.#options.starts.add(adopted);
    // No caller awaits this roll; its failure is reported as an event.
    if (this.#stale.size > 0) this.#roll().catch(() => undefined);
  }

  #roll(): Promise<number> {
    if (this.#rolling === undefined && this.#stale.size === 0) return Promise.resolve(0);
    this.#rolling ??= this.#replaceStale();
    return this.#rolling;
  }

  async #replaceStale(): Promise<number> {
    const { events, onChanged } = this.#options;
    events.add('rolling_started', this.id, `${this.#stale.size} resources, one at a time`);
    let replaced = 0;
    try {
      for (let slot = first(this.#stale); slot !== undefined; slot = first(this.#stale)) {
        this.#stale.delete(slot);
        if (await this.#replace(slot)) replaced++;
        onChanged();
      }
      events.add('rolling_done', this.id, `${replaced} resources were replaced`);
      return replaced;
    } finally {
      // Reset here, not once the promise has settled: a slot that becomes stale from now on needs another roll.
      this.#rolling = undefined;
    }
  }

  /** @returns false when the slot or the deployment changed meanwhile */
  async #replace(slot: Slot): Promise<boolean> {
    const spec = this.#spec;
    for (let tries = 1; ; tries++) {
      try {
        await slot.replace('rolling', 'rolling restart', this.#deployment);
        return true;
      } catch (error) {
        // The change that removed the slot or the deployment has handled it already.
        if (!this.#slots.includes(slot) || spec !== this.#spec) return false;
        // One failure does not prove that the deployment is broken, unless every start would fail in this way.
        if (tries < TRIES_MAX && !this.#isClosed && !(error instanceof PermanentFault)) continue;
        this.#stale.clear();
        throw this.#stoppedError(error as Error);
      }
    }
  }

  #stoppedError(error: Error): KatamariError {
    const advice = 'change the deployment, or restart it when the cause is fixed';
    if (!this.#isClosed)
      this.#options.events.add(
        'rolling_done',
        this.id,
        `stopped: ${error.message}. The other chassis stay as they are; ${advice}`,
      );
    return new KatamariError(
      'resource_failed',
      `The rolling restart of ${this.id} was stopped, the old chassis keep running: ${error.message}`,
      {},
      error,
    );
  }
}

/** A deployment without its count, as text; the order of keys, roles and tags does not matter. */
function specOf(deployment: Deployment): string {
  const { roles, tags } = deployment;
  return JSON.stringify({ ...deployment, count: 0, roles: roles.toSorted(), tags: tags.toSorted() }, sortKeys);
}

/** Replacer for JSON.stringify that sorts the keys of objects. */
function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function noteOf(resources: readonly ResourceStatus[], desired: number): string {
  const failed = resources.filter(({ state }) => state === 'failed' || state === 'backing_off');
  return failed.length === 0 ? '' : `${failed.length} of ${desired} resources do not stay up: ${failed[0]?.note ?? ''}`;
}

function first<T>(set: ReadonlySet<T>): T | undefined {
  for (const one of set) return one;
  return undefined;
}

/** Replacements of one chassis that may fail before the rolling restart stops. */
const TRIES_MAX = 2;
const NO_CALLS: CallStats = new CallStats();
