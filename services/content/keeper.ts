// Keeps the shards that the leader has ordered: fetches them to the disk of this machine, has the content servers open
// them, and announces what is served. It holds no queue: at any moment it works towards the last orders that it was
// given, and a replica that fails is tried again after a pause.

import { type Clock, KatamariError, mustNotFail } from '../../core/mod.ts';
import type { EventLog, Holding, Holdings, JoiningChassis } from '../mesh/mod.ts';
import { ShardRefusal } from './content-client.ts';
import { Copies, type Copy } from './copies.ts';
import type { Fetch } from './fetch/fetcher.ts';
import { HoldingsTable } from './holdings.ts';
import { FETCHES_MAX } from './limits.ts';
import { Replica, type ReplicaStatus } from './replica.ts';
import { formatPlaces, fullNameOf, type ShardOrder } from './shard.ts';
import type { ShardStore } from './shard-store.ts';
import { Turns } from './turns.ts';

export interface KeeperOptions {
  readonly store: ShardStore;
  readonly fetch: Fetch;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Global timeout of calls, in ms: a shard that is not announced any more stays open for as long. */
  readonly timeoutMs: () => number;
  /** Bytes per second of all fetches together; 0 for any. */
  readonly fetchBytesPerS?: number;
}

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #copies: Copies;
  readonly #holdings: HoldingsTable;
  readonly #fetchTurns = new Turns(FETCHES_MAX);
  /** By full name. */
  readonly #replicas = new Map<string, Replica>();
  #isClosed = false;
  #stopSweeping: () => void = () => undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#holdings = new HoldingsTable(options.clock, () => this.#served());
    this.#copies = new Copies(options.clock, () => this.#onCopies());
    this.#sweepLater();
  }

  /** Replaces the orders: missing shards are fetched and opened, others are given up. Idempotent. */
  setOrders(orders: readonly ShardOrder[]): void {
    if (this.#isClosed) return;
    const wanted = new Map(orders.map((order) => [fullNameOf(order), order]));
    for (const [name, replica] of this.#replicas) if (!wanted.has(name)) replica.giveUp();
    for (const [name, order] of wanted) {
      const known = this.#replicas.get(name);
      if (known?.isGone === false) known.order(order);
      else this.#add(name, order);
    }
    this.#retireStrays().catch(() => undefined);
  }

  /** The state of every replica, in order of the names. */
  status(): readonly ReplicaStatus[] {
    return [...this.#replicas.values()].map((replica) => replica.status()).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  holdings(start: string, afterSeq: number, waitMs: number): Promise<Holdings> {
    return this.#holdings.next(start, afterSeq, waitMs);
  }

  /** Ends the waits for changes, because the process drains. */
  endWaits(): void {
    this.#holdings.endWaits();
  }

  /**
   * Has a new copy of a content server open all shards that are announced. A shard that it refuses is not announced any
   * more, and is tried again. Rejects when the copy does not answer.
   */
  async prepare(chassis: JoiningChassis): Promise<void> {
    if (!chassis.holdsShards) return;
    const copy = this.#copies.add(chassis);
    for (;;) {
      const missing = [...this.#replicas.values()].filter(
        (replica) => replica.isAnnounced && replica.isServedBy(copy) && !copy.open.has(replica.name),
      );
      if (missing.length === 0) break;
      await Promise.all(missing.map((replica) => this.#openIn(copy, replica)));
      if (copy.left.aborted) throw new KatamariError('resource_failed', `${copy.name} has left`);
    }
    this.#copies.join(copy);
  }

  /** Stops all work. What is on the disk and open stays as it is. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopSweeping();
    this.#holdings.endWaits();
    await Promise.all([...this.#replicas.values()].map((replica) => replica.close()));
  }

  #add(name: string, order: ShardOrder): void {
    const { store, fetch, events, clock, timeoutMs, fetchBytesPerS = 0 } = this.#options;
    const replica = new Replica(order, {
      store,
      clock,
      copies: this.#copies,
      timeoutMs,
      fetch: (job, onBytes, signal) =>
        this.#fetchTurns.take(
          () => fetch({ ...job, bytesPerS: Math.ceil(fetchBytesPerS / FETCHES_MAX) }, onBytes, signal),
          signal,
        ),
      onChanged: () => this.#holdings.changed(),
      onFailed: (why) => events.add('shard_failed', name, why),
    });
    this.#replicas.set(name, replica);
    const ended = replica.ended.then(() => {
      if (this.#replicas.get(name) === replica) this.#replicas.delete(name);
    });
    mustNotFail(`the replica of ${name}`, ended);
  }

  async #openIn(copy: Copy, replica: Replica): Promise<void> {
    try {
      await replica.openIn(copy);
    } catch (error) {
      if (!(error instanceof ShardRefusal)) throw error;
      replica.refused(error);
    }
  }

  #onCopies(): void {
    for (const replica of this.#replicas.values()) replica.wake();
    this.#holdings.changed();
  }

  #served(): readonly Holding[] {
    const placesOf = new Map<string, { readonly replica: Replica; readonly places: number[] }>();
    for (const replica of this.#replicas.values()) {
      if (!replica.isAnnounced) continue;
      const found = placesOf.get(replica.indexVersion);
      if (found === undefined) placesOf.set(replica.indexVersion, { replica, places: [replica.place] });
      else found.places.push(replica.place);
    }
    const versions = [...placesOf].sort(([a], [b]) => (a < b ? -1 : 1));
    return versions.flatMap(([indexVersion, { replica, places }]) => {
      const server = replica.newestServer();
      if (server === undefined) return [];
      const { service: serviceName, version: serviceVersion } = server;
      return [{ indexVersion, places: formatPlaces(places), serviceName, serviceVersion }];
    });
  }

  /** Deletes what has been in `old/` for long enough, now and from time to time. */
  #sweepLater(): void {
    const { store, clock } = this.#options;
    this.#stopSweeping = clock.after(SWEEP_EVERY_MS, () => {
      this.#sweepLater();
      store.sweepOld(Date.now()).catch(() => undefined);
    });
  }

  /** Moves shards on the disk that nobody has ordered to `old/`: a removal may have been cut short. */
  async #retireStrays(): Promise<void> {
    const { store } = this.#options;
    for (const shard of await store.list()) if (!this.#replicas.has(fullNameOf(shard))) await store.retire(shard);
  }
}

const SWEEP_EVERY_MS = 600_000;
