// The pools of this manager, by service and version. A pool is created for the first chassis that fits no existing
// pool and removed when its last chassis leaves. Finds the pool for a call that arrives over the link. A version has
// one interface as long as a living chassis speaks it, on this manager or elsewhere in the mesh: a chassis with another
// one is refused. Once no living chassis speaks it, the next chassis binds its own.

import { changesBetween, describeDifference } from '../../core/idl/mod.ts';
import { DeadlineWheel } from '../../core/link/mod.ts';
import { KatamariError, untilNextTurnMs, type Clock } from '../../core/mod.ts';
import { hasNoDetails, type Call, type CallSink, type PoolDetails, type Send } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { deploymentId, type Offer } from '../mesh/mod.ts';
import { PendingPoolCalls } from './pending-pool-calls.ts';
import { ResourcePool } from './pool.ts';
import { RateWindow } from './rate-window.ts';
import { LRUCache } from 'lru-cache';

/** An interface that the mesh knows, and where it is used: `manager two`. */
export interface KnownInterface {
  readonly interface: Interface;
  readonly where: string;
}

export interface PoolSetOptions {
  /** Name of the manager. */
  readonly manager: string;
  readonly clock: Clock;
  /** Most calls that may wait for the first chassis of a deployment; undefined when this manager does not run it. */
  readonly queueMaxOf: (id: string) => number | undefined;
  /** Why no chassis of a deployment can start until something changes; '' while one may come up. */
  readonly failureOf: (id: string) => string;
  /** Interfaces that living chassis speak elsewhere in the mesh. */
  readonly knownInterfaces: (service: string, version: string) => readonly KnownInterface[];
  /** How the calls of pools with this interface are watched; undefined when they are not. */
  readonly watch: WatchPool;
  readonly onAliveChanged: () => void;
  /** Called when a pool was removed because a new chassis has bound another interface. */
  readonly onRebound: (pool: ResourcePool, why: string) => void;
  /** Called when a pool refuses calls that have cost a copy its connection or its life. */
  readonly onRefusing: (pool: string, why: string) => void;
}

/** Returns what wraps the sinks of the calls of pools with this interface. */
export type WatchPool = (iface: Interface) => ((call: Call, sink: CallSink) => CallSink) | undefined;

interface PoolEntry {
  readonly key: string;
  readonly pool: ResourcePool;
  readonly offer: Offer;
  /** Call rates and latencies of the last ten seconds. */
  readonly window: RateWindow;
}

export class PoolSet {
  readonly #options: PoolSetOptions;
  readonly #deadlines: DeadlineWheel;
  readonly #pending: PendingPoolCalls;
  /**
   * By `Service@version`: usually one pool; several when chassis of one version report different details. Never
   * empty.
   */
  readonly #byVersion = new Map<string, readonly PoolEntry[]>();
  readonly #byPool = new Map<ResourcePool, PoolEntry>();
  /** Deployments that this manager ran before. Calls for them fail with `draining`: the sender has an old view. */
  readonly #gone = new LRUCache<string, true>({ max: GONE_MAX });
  /** Why this manager accepts no new pools; '' while it does. */
  #leaveReason = '';
  /** Stops the samples of all windows; undefined while there is no pool. */
  #stopSampling: (() => void) | undefined;

  constructor(options: PoolSetOptions) {
    this.#options = options;
    this.#deadlines = new DeadlineWheel(options.clock);
    this.#pending = new PendingPoolCalls(options.clock, this.#deadlines);
  }

  offers(): readonly Offer[] {
    return [...this.#byPool.values()].map(({ offer }) => offer);
  }

  windowOf(pool: ResourcePool | undefined): RateWindow | undefined {
    return pool === undefined ? undefined : this.#byPool.get(pool)?.window;
  }

  /** Routes a call from the manager's own port, by exact service and version. */
  send(call: Call, sink: CallSink): void {
    const id = `${call.service}@${call.version}`;
    const entries = this.#byVersion.get(id);
    if (entries === undefined) return this.#sendPending(id, call, sink);
    const pool =
      entries.length === 1 && hasNoDetails(call) ? poolForRoles(entries[0], call) : choosePool(entries, call);
    if (pool === undefined) sink.fail(noMatchError(id, entries, call));
    else pool.send(call, sink);
  }

  /**
   * Returns the pool for a ready chassis; creates it if needed. Pools of another interface, which no living chassis
   * speaks any more, are removed.
   * @throws Error when a living chassis of this version has another interface
   */
  admit(details: PoolDetails, iface: Interface, queueMax: number): ResourcePool {
    const id = deploymentId(details);
    const key = poolKey(details, iface);
    const entries = this.#byVersion.get(id) ?? [];
    const same = entries.find((entry) => entry.key === key);
    if (same !== undefined) {
      same.pool.queueMax = queueMax;
      return same.pool;
    }
    this.#checkInterface(details, iface, entries);
    const kept = entries.filter(({ pool }) => pool.options.interface.id === iface.id);
    const { clock, manager, watch, onAliveChanged, onRefusing } = this.#options;
    const ownId = poolId(id, kept);
    const pool = new ResourcePool({
      id: ownId,
      details,
      interface: iface,
      queueMax,
      clock,
      deadlines: this.#deadlines,
      watch: watch(iface),
      onAliveChanged,
      onRefusing: (why) => onRefusing(ownId, why),
    });
    const entry = { key, pool, offer: offerOf(pool, manager), window: new RateWindow(pool.stats, clock) };
    this.#byVersion.set(id, [...entries, entry]);
    this.#byPool.set(pool, entry);
    if (this.#stopSampling === undefined) this.#sampleLater();
    for (const old of entries) if (!kept.includes(old)) this.#replace(old.pool, iface);
    this.#pending.resume(id);
    return pool;
  }

  /** Removes a pool whose interface no living chassis speaks, because `iface` replaces it. */
  #replace(pool: ResourcePool, iface: Interface): void {
    const { id, interface: old } = pool.options;
    const why = `no living copy speaks its interface any more, and a new copy speaks another one. New and old:\n${describeDifference(iface, old)}`;
    // The waiting calls were encoded for the old interface. They may move only if a chassis of the new one reads them.
    const isReadable = changesBetween(old, iface).every(({ oldCallers }) => oldCallers === 'fine');
    this.remove(pool, draining(`The interface of ${id} has changed; send the call again`), isReadable);
    this.#options.onRebound(pool, why);
  }

  /**
   * Removes a pool that has no chassis left. Its waiting calls move to another matching pool, or fail with
   * `why`.
   * @returns false when it was removed before
   */
  remove(pool: ResourcePool, why: KatamariError, canMove = true): boolean {
    const entry = this.#byPool.get(pool);
    if (entry === undefined) return false;
    const id = deploymentId(pool.options.details);
    const left = (this.#byVersion.get(id) ?? []).filter((other) => other !== entry);
    if (left.length > 0) this.#byVersion.set(id, left);
    else this.#byVersion.delete(id);
    this.#byPool.delete(pool);
    if (this.#byPool.size === 0) this.#endSampling();
    pool.close(why, (call): Send | undefined => (canMove ? choosePool(left, call)?.send : undefined));
    return true;
  }

  /**
   * Fails the calls that wait for a deployment whose chassis cannot start.
   * @param pool its pool, which is removed if it has no chassis
   */
  fail(id: string, pool: ResourcePool | undefined): void {
    const error = this.#failedError(id);
    this.#pending.refuse(() => error, id);
    if (pool?.alive === 0) this.remove(pool, error);
  }

  /**
   * Notes that this manager no longer runs `Service@version`, and refuses the calls that wait for its first chassis.
   */
  forget(id: string, why: string): void {
    this.#gone.set(id, true);
    this.#pending.refuse(() => draining(why), id);
  }

  /** Accepts no new pools. Calls for a deployment without a pool fail with `draining`. */
  leave(why: string): void {
    this.#leaveReason = why;
    this.#pending.refuse(() => draining(why));
  }

  /** Refuses all waiting calls. Calls that a chassis runs continue. */
  close(why: string): void {
    this.leave(why);
    this.#endSampling();
    for (const pool of this.#byPool.keys()) pool.close(draining(why));
  }

  #sampleLater(): void {
    const { clock } = this.#options;
    this.#stopSampling = clock.after(untilNextTurnMs(clock.nowMs(), SAMPLE_EVERY_MS), () => {
      this.#sampleLater();
      for (const { window } of this.#byPool.values()) window.sample();
    });
  }

  #endSampling(): void {
    this.#stopSampling?.();
    this.#stopSampling = undefined;
  }

  #sendPending(id: string, call: Call, sink: CallSink): void {
    const queueMax = this.#options.queueMaxOf(id);
    if (this.#leaveReason !== '') {
      sink.fail(new KatamariError('draining', this.#leaveReason, { notRun: true }));
    } else if (queueMax === undefined) {
      sink.fail(this.#notHere(id));
    } else if (this.#options.failureOf(id) !== '') {
      sink.fail(this.#failedError(id));
    } else {
      this.#pending.add(id, call, queueMax, sink, (waitedMs) => this.send(call, withWait(sink, waitedMs)));
    }
  }

  #failedError(id: string): KatamariError {
    const why = `No copy of ${id} can start on manager ${this.#options.manager}: ${this.#options.failureOf(id)}`;
    return new KatamariError('resource_failed', why);
  }

  #notHere(id: string): KatamariError {
    const { manager } = this.#options;
    const notRun = true;
    if (this.#gone.has(id))
      return new KatamariError('draining', `Manager ${manager} does not run ${id} any more`, { notRun });
    const known = [...this.#byPool.keys()].map(({ options }) => options.id);
    const others = known.length > NAMES_SHOWN_MAX ? ` and ${known.length - NAMES_SHOWN_MAX} more` : '';
    const names = known.slice(0, NAMES_SHOWN_MAX).join(', ') || 'none';
    return new KatamariError('no_pool', `Manager ${manager} has no pool ${id}; its pools are ${names}${others}`, {
      notRun,
    });
  }

  /**
   * Throws when the interface differs from another one of its version: such copies would answer the same call
   * differently.
   */
  #checkInterface({ service, version }: PoolDetails, iface: Interface, entries: readonly PoolEntry[]): void {
    const living = entries.filter(({ pool }) => pool.alive > 0);
    const here = living.map(({ pool }) => ({ interface: pool.options.interface, where: `pool ${pool.options.id}` }));
    for (const other of [...here, ...this.#options.knownInterfaces(service, version)]) {
      if (other.interface.id === iface.id) continue;
      const difference = describeDifference(iface, other.interface);
      throw new Error(
        `its interface differs from that of ${other.where}; give it another version. It is tried again, because it may serve once no living copy speaks the other interface. Here and there:\n${difference}`,
      );
    }
  }
}

function draining(why: string): KatamariError {
  return new KatamariError('draining', why, { notRun: true });
}

/** Adds the time that a call waited for its pool to the time in the queue. */
function withWait(sink: CallSink, waitedMs: number): CallSink {
  return {
    reply: (reply) => {
      const queueUs = reply.context.queueUs + Math.round(waitedMs * 1000);
      sink.reply({ ...reply, context: { ...reply.context, queueUs } });
    },
    fail: (error) => sink.fail(error),
  };
}

/** Detail of a call that selects a pool by its id. */
const POOL_DETAIL = 'katamari-pool';

/** The only pool of a version, if its roles equal those of the call. */
function poolForRoles(entry: PoolEntry | undefined, call: Call): ResourcePool | undefined {
  return entry !== undefined && isSameSet(entry.pool.options.details.roles, call.roles) ? entry.pool : undefined;
}

/**
 * The pool that the call names; otherwise the matching pool with the best score, then the most free resources, then
 * the shortest queue.
 */
function choosePool(entries: readonly PoolEntry[], call: Call): ResourcePool | undefined {
  const pools = entries.map(({ pool }) => pool).filter((pool) => isMatch(pool, call));
  const named = pools.find(({ options }) => options.id === call.details[POOL_DETAIL]);
  if (named !== undefined || pools.length <= 1) return named ?? pools[0];
  const scores = new Map(pools.map((pool) => [pool, score(pool, call)]));
  return pools.sort((a, b) => (scores.get(b) ?? 0) - (scores.get(a) ?? 0) || b.free - a.free || a.queued - b.queued)[0];
}

function isMatch({ options: { details } }: ResourcePool, call: Call): boolean {
  return (
    isSameSet(details.roles, call.roles) &&
    Object.entries(call.details).every(
      ([key, value]) => !Object.hasOwn(details.more, key) || details.more[key] === value,
    )
  );
}

function score({ options: { details } }: ResourcePool, call: Call): number {
  const tags = call.tags.filter((tag) => details.tags.includes(tag)).length;
  return tags + Object.entries(call.details).filter(([key, value]) => details.more[key] === value).length;
}

function isSameSet(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((one) => others.includes(one));
}

function noMatchError(id: string, entries: readonly PoolEntry[], { roles }: Call): KatamariError {
  const pools = entries.map(({ pool: { options } }) => {
    const { roles: of } = options.details;
    return `${options.id} ${of.length === 0 ? 'without roles' : `for roles ${of.join(', ')}`}`;
  });
  const requested = roles.length === 0 ? 'without roles' : `for roles ${roles.join(', ')}`;
  const why = `No pool of ${id} takes a call ${requested} with these details; its pools are ${pools.join('; ')}`;
  return new KatamariError('no_pool', why, { notRun: true });
}

/** Equal for pools with equal details and equal interface; the order of roles, tags and keys does not matter. */
function poolKey({ roles, tags, more }: PoolDetails, iface: Interface): string {
  const sorted = Object.entries(more).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([[...roles].sort(), [...tags].sort(), sorted, iface.id]);
}

/** `Service@version`, with `#2` and so on when several pools share both. */
function poolId(plain: string, entries: readonly PoolEntry[]): string {
  const taken = new Set(entries.map(({ pool }) => pool.options.id));
  let id = plain;
  for (let n = 2; taken.has(id); n++) id = `${plain}#${n}`;
  return id;
}

function offerOf(pool: ResourcePool, manager: string): Offer {
  const { id, details } = pool.options;
  return {
    id,
    details,
    interface: pool.options.interface,
    manager,
    isReachable: true,
    send: pool.send,
    get free() {
      return pool.free;
    },
    get alive() {
      return pool.alive;
    },
    get queued() {
      return pool.queued;
    },
  };
}

const GONE_MAX = 10_000;
const SAMPLE_EVERY_MS = 1_000;
const NAMES_SHOWN_MAX = 20;
