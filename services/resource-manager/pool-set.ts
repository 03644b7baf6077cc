// The pools of this manager by service and version: made as chassis come that fit none, gone with their last place. Finds the pool of a call
import { describeDifference } from '../../core/idl/mod.ts';
import { DeadlineWheel } from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type Clock } from '../../core/mod.ts';
import { hasNoDetails, type Call, type CallSink, type PoolDetails, type Send } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { deploymentId, type Offer } from '../mesh/mod.ts';
import { PendingPoolCalls } from './pending-pool-calls.ts';
import { ResourcePool } from './pool.ts';
import { RateWindow } from './rate-window.ts';

// that came over the link. Refuses chassis whose interface differs from that of their service and version, here or elsewhere in the mesh.

import { LRUCache } from 'lru-cache';

/** An interface that the mesh knows, and where: `manager two`. */
export interface KnownInterface {
  readonly interface: Interface;
  readonly where: string;
}

export interface PoolSetOptions {
  /** Name of the manager. */
  readonly manager: string;
  readonly clock: Clock;
  /** Calls that may wait for the first chassis of a deployment; undefined when `Service@version` is not run here. */
  readonly queueMaxOf: (id: string) => number | undefined;
  readonly knownInterfaces: (service: string, version: string) => readonly KnownInterface[];
  readonly onAliveChanged: () => void;
}

interface PoolSetSlot {
  readonly key: string;
  readonly pool: ResourcePool;
  readonly offer: Offer;
  /** Its rates over the last seconds. */
  readonly window: RateWindow;
}

export class PoolSet {
  readonly #options: PoolSetOptions;
  readonly #deadlines: DeadlineWheel;
  readonly #early: PendingPoolCalls;
  /** By `Service@version`; mostly one, several when chassis of one version say different details. Never an empty list. */
  readonly #places = new Map<string, readonly PoolSetSlot[]>();
  readonly #byPool = new Map<ResourcePool, PoolSetSlot>();
  /** What was run here until lately. Calls for it are sent elsewhere: who sent them has not heard yet. */
  readonly #gone = new LRUCache<string, true>({ max: GONE_MAX });

  /** The manager is leaving; '' while it is not. */
  #whyLeaving = '';

  constructor(options: PoolSetOptions) {
    this.#options = options;
    this.#deadlines = new DeadlineWheel(options.clock);
    this.#early = new PendingPoolCalls(options.clock);
  }

  offers(): readonly Offer[] {
    return [...this.#byPool.values()].map(({ offer }) => offer);
  }

  windowOf(pool: ResourcePool | undefined): RateWindow | undefined {
    return pool === undefined ? undefined : this.#byPool.get(pool)?.window;
  }

  /** The way in from the manager's own port: by exact service and version. */
  send(call: Call, sink: CallSink): void {
    const id = `${call.service}@${call.version}`;
    const entries = this.#places.get(id);
    if (entries === undefined) return this.#sendEarly(id, call, sink);
    const pool = entries.length === 1 && hasNoDetails(call) ? onlyFor(entries[0], call) : chosen(entries, call);
    if (pool === undefined) sink.fail(noneFits(id, entries, call));
    else pool.send(call, sink);
  }

  /** Finds or makes the pool of what was introduced. @throws Error when its interface is not that of its service and version */
  admit(details: PoolDetails, found: Interface, queueMax: number): ResourcePool {
    const id = deploymentId(details);
    const key = poolKey(details, found);
    const entries = this.#places.get(id) ?? [];
    const same = entries.find((entry) => entry.key === key);
    if (same !== undefined) {
      same.pool.queueMax = queueMax;
      return same.pool;
    }
    this.#checkInterface(details, found, entries);
    const { clock, manager, onAliveChanged } = this.#options;
    const pool = new ResourcePool({
      id: poolId(id, entries),
      details,
      interface: found,
      queueMax,
      clock,
      deadlines: this.#deadlines,
      onAliveChanged,
    });
    const entry = { key, pool, offer: offerOf(pool, manager), window: new RateWindow(pool.stats, clock) };
    this.#places.set(id, [...entries, entry]);
    this.#byPool.set(pool, entry);
    this.#early.open(id);
    return pool;
  }

  /** Nothing will be in this pool any more: what waits goes to another pool here that fits, or elsewhere. */
  remove(pool: ResourcePool, why: string): void {
    const entry = this.#byPool.get(pool);
    if (entry === undefined) return;
    const id = deploymentId(pool.options.details);
    const left = (this.#places.get(id) ?? []).filter((other) => other !== entry);
    if (left.length > 0) this.#places.set(id, left);
    else this.#places.delete(id);
    this.#byPool.delete(pool);
    entry.window.close();
    pool.close(why, (call): Send | undefined => chosen(left, call)?.send);
  }

  /** `Service@version` is not run here any more. */
  forget(id: string, why: string): void {
    this.#gone.set(id, true);
    this.#early.refuse(id, why);
  }

  /** There will be no new pools; calls for what has none are sent elsewhere. */
  leave(why: string): void {
    this.#whyLeaving = why;
    this.#early.close(why);
  }

  /** Refuses all that waits. Calls that are in a chassis go on. */
  close(why: string): void {
    this.leave(why);
    for (const { pool, window } of this.#byPool.values()) {
      pool.close(why);
      window.close();
    }
  }

  #sendEarly(id: string, call: Call, sink: CallSink): void {
    const queueMax = this.#options.queueMaxOf(id);
    if (this.#whyLeaving !== '') {
      sink.fail(new KatamariError('draining', this.#whyLeaving, { notRun: true }));
    } else if (queueMax === undefined) {
      sink.fail(this.#notHere(id));
    } else {
      this.#early.wait(id, call, queueMax).then(
        (waitedMs) => this.send(call, addingWait(sink, waitedMs)),
        (thrown: unknown) => sink.fail(asKatamariError(thrown)),
      );
    }
  }

  #notHere(id: string): KatamariError {
    const { manager } = this.#options;
    const notRun = true;
    if (this.#gone.has(id))
      return new KatamariError('draining', `Manager ${manager} does not run ${id} any more`, { notRun });
    const known = [...this.#byPool.keys()].map(({ options }) => options.id);
    const more = known.length > NAMES_SHOWN_MAX ? ` and ${known.length - NAMES_SHOWN_MAX} more` : '';
    const names = known.slice(0, NAMES_SHOWN_MAX).join(', ') || 'none';
    return new KatamariError('no_pool', `Manager ${manager} has no pool ${id}; its pools are ${names}${more}`, {
      notRun,
    });
  }

  /** Copies of one service and version that do not have one interface would answer the same call differently. */
  #checkInterface({ service, version }: PoolDetails, found: Interface, entries: readonly PoolSetSlot[]): void {
    const here = entries.map(({ pool }) => ({
      interface: pool.options.interface,
      where: `pool ${pool.options.id}`,
    }));
    for (const other of [...here, ...this.#options.knownInterfaces(service, version)]) {
      if (other.interface.id === found.id) continue;
      const difference = describeDifference(found, other.interface);
      throw new Error(
        `its interface differs from the one of ${other.where}; give it another version. Here, and there:\n${difference}`,
      );
    }
  }
}

/** The time before there was a pool counts as time in the queue. */
function addingWait(sink: CallSink, waitedMs: number): CallSink {
  return {
    reply: (reply) => {
      const queueUs = reply.context.queueUs + Math.round(waitedMs * 1000);
      sink.reply({ ...reply, context: { ...reply.context, queueUs } });
    },
    fail: (error) => sink.fail(error),
  };
}

/** Name of the detail by which a call asks for one pool, by its id. */
const POOL_DETAIL = 'katamari-pool';

/** The wall of roles stands for a lone pool too. */
function onlyFor(entry: PoolSetSlot | undefined, call: Call): ResourcePool | undefined {
  return entry !== undefined && isSameSet(entry.pool.options.details.roles, call.roles) ? entry.pool : undefined;
}

/** The pool that the call names, else, of those that roles and details let through, the one that matches most, then the freest. */
function chosen(entries: readonly PoolSetSlot[], call: Call): ResourcePool | undefined {
  const pools = entries.map(({ pool }) => pool).filter((pool) => fits(pool, call));
  const named = pools.find(({ options }) => options.id === call.details[POOL_DETAIL]);
  if (named !== undefined || pools.length <= 1) return named ?? pools[0];
  const scores = new Map(pools.map((pool) => [pool, score(pool, call)]));
  return pools.sort((a, b) => (scores.get(b) ?? 0) - (scores.get(a) ?? 0) || b.free - a.free || a.queued - b.queued)[0];
}

function fits({ options: { details } }: ResourcePool, call: Call): boolean {
  return (
    isSameSet(details.roles, call.roles) &&
    Object.entries(call.details).every(([key, value]) => details.more[key] === undefined || details.more[key] === value)
  );
}

function score({ options: { details } }: ResourcePool, call: Call): number {
  const tags = call.tags.filter((tag) => details.tags.includes(tag)).length;
  return tags + Object.entries(call.details).filter(([key, value]) => details.more[key] === value).length;
}

function isSameSet(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((one) => others.includes(one));
}

function noneFits(id: string, entries: readonly PoolSetSlot[], { roles }: Call): KatamariError {
  const pools = entries.map(({ pool: { options } }) => {
    const { roles: of } = options.details;
    return `${options.id} ${of.length === 0 ? 'without roles' : `for roles ${of.join(', ')}`}`;
  });
  const asked = roles.length === 0 ? 'without roles' : `for roles ${roles.join(', ')}`;
  const why = `No pool of ${id} takes a call ${asked} and with its details; there are ${pools.join('; ')}`;
  return new KatamariError('no_pool', why, { notRun: true });
}

/** Equal details and equal interface, whatever the order in which anything was written. */
function poolKey({ roles, tags, more }: PoolDetails, found: Interface): string {
  const sorted = Object.entries(more).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([[...roles].sort(), [...tags].sort(), sorted, found.id]);
}

/** `Service@version`, with a number when several pools share both. */
function poolId(plain: string, entries: readonly PoolSetSlot[]): string {
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
const NAMES_SHOWN_MAX = 20;
