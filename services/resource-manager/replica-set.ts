// The copies of one deployment on this machine: as many slots as are wanted, all from the deployment that is wanted. Whatever it is told, told
// when and how often, it goes towards what it was told last: more slots are started, the worst ones are drained, and slots with another
// deployment are replaced one after the other, each only by a chassis that has come up. One that does not come up ends the rolling: the
// rest stays as it is until the deployment changes again or somebody asks for a restart.

import { KatamariError } from '../../core/mod.ts';
import { CallStats, type PoolStatus, type ResourceStatus, type RestartReason } from '../../core/rpc/mod.ts';
import { deploymentId, type Deployment, type EventLog } from '../mesh/mod.ts';
import type { ResourcePool } from './pool.ts';
import type { RateWindow } from './rate-window.ts';
import type { Slot } from './slot.ts';
import type { StartLimiter } from './start-limiter.ts';

export interface ReplicaSetOptions {
  readonly deployment: Deployment;
  readonly events: EventLog;
  readonly turns: StartLimiter;
  readonly newSlot: (name: string, deployment: Deployment) => Slot;
  /** Its slots came, went, or changed their deployment. */
  readonly onChanged: () => void;
}

export class ReplicaSet {
  readonly #options: ReplicaSetOptions;
  /** `Service@version` */
  readonly id: string;
  readonly restartsByReason: Partial<Record<RestartReason, number>> = {};
  /** What its slots are to run; the number of slots is `#slots.length`. */
  #deployment: Deployment;
  #spec: string;
  #slots: readonly Slot[] = [];
  /** Slots that are not wanted any more and finish, until they have. */
  readonly #leaving = new Map<Slot, Promise<void>>();
  /** Slots whose chassis are to be replaced. */
  readonly #stale = new Set<Slot>();
  #rolling: Promise<number> | undefined;
  #isClosed = false;

  constructor(options: ReplicaSetOptions) {
    this.#options = options;
    this.id = deploymentId(options.deployment);
    this.#deployment = options.deployment;
    this.#spec = specOf(options.deployment);
  }

  /** What is wanted of each slot; its count means nothing. */
  get deployment(): Deployment {
    return this.#deployment;
  }

  /** Those that are wanted. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Those that finish too. */
  get allSlots(): readonly Slot[] {
    return [...this.#slots, ...this.#leaving.keys()];
  }

  /** True when every slot serves. */
  get isComplete(): boolean {
    return this.#slots.every((slot) => slot.isServing);
  }

  get isEmpty(): boolean {
    return this.#slots.length === 0 && this.#leaving.size === 0;
  }

  get pool(): ResourcePool | undefined {
    return this.#slots.find((slot) => slot.pool !== undefined)?.pool;
  }

  /** Goes towards this many copies of this deployment; with the same again it does nothing. */
  want(deployment: Deployment, why: string): void {
    const countBefore = this.#slots.length;
    const spec = specOf(deployment);
    const hasChanged = spec !== this.#spec;
    if (hasChanged) {
      this.#spec = spec;
      // Back to what some of them still are: those are left alone.
      this.#deployment = this.#slots.find((slot) => specOf(slot.deployment) === spec)?.deployment ?? deployment;
    }
    this.#shrinkTo(deployment.count, why);
    if (hasChanged) this.#changeSlots();
    this.#growTo(deployment.count);
    const { events, onChanged } = this.#options;
    if (deployment.count !== countBefore && countBefore > 0)
      events.add('deployment_changed', this.id, `${countBefore} -> ${deployment.count} copies: ${why}`);
    if (hasChanged && countBefore > 0 && deployment.count > 0)
      events.add('deployment_changed', this.id, `${why}; chassis with the old one are replaced one after the other`);
    if (hasChanged || deployment.count !== countBefore) onChanged();
  }

  /**
   * Replaces every chassis, one after the other, the new one before the old goes.
   * @returns how many were replaced
   * @throws KatamariError when a replacement does not come up: the rest is left as it is
   */
  async roll(): Promise<number> {
    for (const slot of this.#slots) this.#stale.add(slot);
    return await this.#roll();
  }

  /** Finishes what is under way and ends every chassis. */
  async drain(why: string): Promise<void> {
    this.#isClosed = true;
    this.#shrinkTo(0, why);
    await Promise.all(this.#leaving.values());
  }

  /** Ends everything now. */
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
      note: noteOf(resources, this.#slots.length),
    };
  }

  /** The worst off go first: those that do not serve, then the last ones. */
  #shrinkTo(count: number, why: string): void {
    if (this.#slots.length <= count) return;
    const byWorth = [...this.#slots].sort((a, b) => Number(b.isServing) - Number(a.isServing));
    const kept = new Set(byWorth.slice(0, count));
    const gone = this.#slots.filter((slot) => !kept.has(slot));
    // First, so that nobody counts on them: the pool goes with its last slot.
    this.#slots = this.#slots.filter((slot) => kept.has(slot));
    for (const slot of gone) {
      this.#options.turns.remove(slot);
      this.#stale.delete(slot);
      const left = slot.drain(why).then(() => {
        this.#leaving.delete(slot);
        this.#options.onChanged();
      });
      this.#leaving.set(slot, left);
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
    this.#options.turns.add(added);
  }

  #changeSlots(): void {
    this.#stale.clear();
    const adopted: Slot[] = [];
    for (const slot of this.#slots) {
      if (slot.deployment === this.#deployment) slot.keepTo(this.#deployment);
      else if (slot.adopt(this.#deployment)) adopted.push(slot);
      else {
        slot.keepTo(this.#deployment);
        this.#stale.add(slot);
      }
    }
    this.#options.turns.add(adopted);
    // Whoever waits for a restart hears of its failure from the restart; here the events tell it.
    if (this.#stale.size > 0) this.#roll().catch(() => undefined);
  }

  #roll(): Promise<number> {
    if (this.#rolling === undefined && this.#stale.size === 0) return Promise.resolve(0);
    this.#rolling ??= this.#replaceStale();
    return this.#rolling;
  }

  async #replaceStale(): Promise<number> {
    const { events, onChanged } = this.#options;
    events.add('rolling_started', this.id, `${this.#stale.size} resources, one after the other`);
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
      // Here and not after the promise: what becomes stale from now on needs another round.
      this.#rolling = undefined;
    }
  }

  /** @returns false when that is not wanted any more */
  async #replace(slot: Slot): Promise<boolean> {
    const spec = this.#spec;
    for (let tries = 1; ; tries++) {
      try {
        await slot.replace('rolling', 'rolling restart', this.#deployment);
        return true;
      } catch (error) {
        // Its end, or another deployment, was seen to when it was said.
        if (!this.#slots.includes(slot) || spec !== this.#spec) return false;
        // One mishap is no proof against a deployment.
        if (tries < TRIES_MAX && !this.#isClosed) continue;
        this.#stale.clear();
        throw this.#stopped(error as Error);
      }
    }
  }

  #stopped(error: Error): KatamariError {
    const advice = 'change its deployment, or restart it when the cause is gone';
    if (!this.#isClosed)
      this.#options.events.add(
        'rolling_done',
        this.id,
        `stopped: ${error.message}. The others go on as they are; ${advice}`,
      );
    return new KatamariError(
      'resource_failed',
      `The rolling restart of ${this.id} was stopped, the old chassis go on: ${error.message}`,
      {},
      error,
    );
  }
}

/** All of a deployment but how many, whatever the order in which it was written. */
function specOf(deployment: Deployment): string {
  const { roles, tags } = deployment;
  return JSON.stringify({ ...deployment, count: 0, roles: roles.toSorted(), tags: tags.toSorted() }, sorted);
}

/** For JSON.stringify: objects with their keys in order. */
function sorted(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function noteOf(resources: readonly ResourceStatus[], wanted: number): string {
  const failed = resources.filter(({ state }) => state === 'failed' || state === 'backing_off');
  return failed.length === 0 ? '' : `${failed.length} of ${wanted} resources do not stay up: ${failed[0]?.note ?? ''}`;
}

function first<T>(set: ReadonlySet<T>): T | undefined {
  for (const one of set) return one;
  return undefined;
}

/** Replacements of one chassis that may fail before the rolling stops. */
const TRIES_MAX = 2;
const NO_CALLS: CallStats = new CallStats();
