// Keeps the shards that the leader has ordered: fetches them to the disk of this machine, has the content servers open
// them, and announces what is served. It queues no orders: it reconciles towards the last ones, and retries a failed
// replica after a pause.

import { type Clock, KatamariError, mustNotFail } from '../../core/mod.ts';
import type { EventKind } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { formatPlaces, type EventLog, type Holdings, type HoldingsRecord, type JoiningChassis } from '../mesh/mod.ts';
import { ShardRefusal } from './content-client.ts';
import { Copies, type Copy } from './copies.ts';
import type { Fetch, Verify } from './fetch/fetcher.ts';
import { HoldingsTable, type HoldingsState } from './holdings.ts';
import { DISK_RESERVE_BYTES, FETCHES_MAX } from './limits.ts';
import { Replica } from './replica.ts';
import type { ReplicaStatus } from './replica-status.ts';
import { fullNameOf } from './shard-name.ts';
import type { ShardOrder } from './shard.ts';
import { ShardFaults, type WatchCall } from './shard-faults.ts';
import type { ShardId, ShardStore } from './shard-store.ts';
import { Turns } from './turns.ts';
import { Verifier, type ShardCheck } from './verifier.ts';

export interface KeeperOptions {
  readonly store: ShardStore;
  readonly fetch: Fetch;
  /** Returns whether the files of a shard are as they were fetched. */
  readonly verify: Verify;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Global timeout of calls, in ms. A withdrawn shard stays open for this time and a second. */
  readonly timeoutMs: () => number;
  /** Time limit for a copy of a content server to open a shard. */
  readonly openTimeoutMs: number;
  /** Time between two checks of the files of a shard; 0: only when an operator asks. */
  readonly verifyEveryMs: number;
  /** Called when `record` has changed. */
  readonly onRecord?: () => void;
}

export class Keeper {
  readonly #options: KeeperOptions;
  readonly #copies: Copies;
  readonly #holdings: HoldingsTable;
  readonly #fetchTurns = new Turns(FETCHES_MAX);
  /** Free space at the last change. */
  #freeBytes = 0;
  #isRecordStale = false;
  readonly #faults: ShardFaults;
  /** By full name. */
  readonly #replicas = new Map<string, Replica>();
  /** The pass over the disk for shards without an order; replicas wait for it. */
  #strays: Promise<void> = Promise.resolve();
  #fetchedBytes = 0;
  #damaged = 0;
  readonly #verifier: Verifier;
  #isClosed = false;
  #hasOrders = false;
  #tellingEndMs = 0;
  #toldEvents = 0;
  #stopSweeping: () => void = () => undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#holdings = new HoldingsTable(options.clock, () => this.#held());
    this.#copies = new Copies(options, (copy) => this.#onCopies(copy));
    this.#faults = new ShardFaults(options.clock, {
      isServed: (name) => this.#replicas.get(name)?.isAnnounced === true,
      onSuspect: (name, why, isAlone) => this.#replicas.get(name)?.suspect(why, isAlone),
    });
    this.#verifier = new Verifier({
      clock: options.clock,
      everyMs: options.verifyEveryMs,
      replicas: () => this.#replicas.values(),
      onFailed: (name, why) => this.#tell('shard_failed', name, why),
    });
    this.#sweepLater();
  }

  /** How the calls of a pool are watched for shards that fail; undefined when its interface has no shards. */
  watch(iface: Interface): WatchCall | undefined {
    return this.#faults.watch(iface);
  }

  /**
   * Replaces the orders: missing shards are fetched and opened, others are given up. Idempotent.
   * @param unknown index versions whose manifest cannot be read now; their files stay on the disk
   */
  setOrders(orders: readonly ShardOrder[], unknown: ReadonlySet<string> = new Set()): void {
    if (this.#isClosed) return;
    this.#hasOrders ||= orders.length > 0;
    const wanted = new Map(orders.map((order) => [fullNameOf(order), order]));
    for (const [name, replica] of this.#replicas) if (!wanted.has(name)) replica.giveUp();
    for (const [name, order] of wanted) {
      const known = this.#replicas.get(name);
      if (known?.isGone === false) known.order(order);
      else this.#add(name, order);
    }
    this.#strays = this.#strays.then(() => this.#retireStrays(unknown)).catch(() => undefined);
  }

  /** The state of every replica, in order of the names. */
  status(): readonly ReplicaStatus[] {
    return [...this.#replicas.values()].map((replica) => replica.status()).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Bytes that were fetched since the start, and fetches that run or wait for their turn, with the checks after failed
   * calls.
   */
  fetches(): { readonly bytes: number; readonly running: number; readonly waiting: number } {
    const { running, waiting } = this.#fetchTurns;
    return { bytes: this.#fetchedBytes, running, waiting };
  }

  /**
   * Checks the files of shards now, those of an operator before others. The same id again changes nothing.
   * @param isAsked gets the full name of a shard
   */
  verify(id: string, isAsked: (shard: string) => boolean): void {
    if (!this.#isClosed) this.#verifier.start(id, isAsked);
  }

  /** What `verify` has found so far. */
  verification(id: string): readonly ShardCheck[] {
    return this.#verifier.read(id);
  }

  /** Shards that were found damaged since the start, and checks of files by result; see Verifier. */
  checks(): {
    readonly damaged: number;
    readonly checks: Readonly<Record<string, number>>;
    readonly checkedBytes: number;
  } {
    const { bytes: checkedBytes, ...checks } = this.#verifier.counts;
    return { damaged: this.#damaged, checks, checkedBytes };
  }

  /** Whether a shard was ever ordered. */
  get hasOrders(): boolean {
    return this.#hasOrders;
  }

  /** What this manager holds, for the leader. */
  record(): HoldingsRecord {
    const replicas = [...this.#replicas.values()];
    const failed = replicas.filter((replica) => replica.status().tries > 0);
    return {
      serving: placesOf(replicas.filter(({ isAnnounced }) => isAnnounced)),
      onDisk: placesOf(replicas.filter(({ isOnDisk }) => isOnDisk)),
      manifests: Object.fromEntries(replicas.map(({ indexVersion, manifest }) => [indexVersion, manifest])),
      failed: failed.map((replica, at) => {
        const { indexVersion, place } = replica;
        const { tries, why } = replica.status();
        return { indexVersion, place, tries, why: at < FAILURES_EXPLAINED ? why.slice(0, WHY_LENGTH_MAX) : '' };
      }),
      freeBytes: this.#freeBytes,
    };
  }

  holdings(start: string, afterSeq: number, waitMs: number): Promise<Holdings> {
    return this.#holdings.next(start, afterSeq, waitMs);
  }

  /** Called when the process drains: ends long polls and fetches. Served shards stay announced. */
  drain(): void {
    this.#isClosed = true;
    this.#verifier.close();
    this.#holdings.endWaits();
    for (const replica of this.#replicas.values()) void replica.close();
  }

  /**
   * Opens all announced shards in a new copy of a content server. Rejects when the copy leaves, does not answer, or
   * refuses a shard that another copy serves. A shard that no other copy serves is withdrawn and retried.
   */
  async prepare(chassis: JoiningChassis): Promise<void> {
    if (!chassis.holdsShards) return;
    const copy = this.#copies.add(chassis);
    for (;;) {
      const announced = [...this.#replicas.values()].filter(
        (replica) => replica.isAnnounced && replica.isServedBy(copy),
      );
      const missing = announced.filter((replica) => !copy.isOpen.has(replica.name));
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
    this.#verifier.close();
    this.#holdings.endWaits();
    await Promise.all([...this.#replicas.values()].map((replica) => replica.close()));
  }

  #add(name: string, order: ShardOrder): void {
    const { store, fetch, verify, clock, timeoutMs } = this.#options;
    const replica = new Replica(order, {
      store,
      clock,
      copies: this.#copies,
      timeoutMs,
      turns: this.#fetchTurns,
      verify,
      fetch,
      onChanged: () => this.#changed(),
      onFetched: (bytes) => (this.#fetchedBytes += bytes),
      strays: () => this.#strays,
      onFailed: (why) => this.#tell('shard_failed', name, why),
      onDamaged: (why) => {
        this.#damaged++;
        this.#tell('shard_damaged', name, `${why}. It is withdrawn here, fetched again, and served then`);
      },
      onRestored: () => this.#tell('shard_restored', name, 'Its files were fetched again, and it is served here'),
    });
    this.#replicas.set(name, replica);
    const ended = replica.ended.then(() => {
      // A replica that was only closed is served until the process ends.
      if (!replica.isGone || this.#replicas.get(name) !== replica) return;
      this.#replicas.delete(name);
      this.#changed();
    });
    mustNotFail(`the replica of ${name}`, ended);
  }

  /** One cause may fail every shard, so only some events a minute are written. The status has all reasons. */
  #tell(kind: EventKind, name: string, text: string): void {
    const { events, clock } = this.#options;
    if (clock.nowMs() >= this.#tellingEndMs) {
      this.#tellingEndMs = clock.nowMs() + 60_000;
      this.#toldEvents = 0;
    }
    if (this.#toldEvents++ < EVENTS_A_MINUTE) events.add(kind, name, text);
  }

  async #openIn(copy: Copy, replica: Replica): Promise<void> {
    try {
      await replica.openIn(copy);
    } catch (error) {
      // A copy that refuses what others serve is at fault itself, and must not replace them.
      if (!(error instanceof ShardRefusal) || replica.newestServer() !== undefined) throw error;
      replica.refused(error);
      if (copy.left.aborted) throw error;
    }
  }

  #onCopies(copy: Copy): void {
    for (const replica of this.#replicas.values()) if (replica.isServedBy(copy)) replica.wake();
    this.#changed();
  }

  #changed(): void {
    this.#holdings.changed();
    this.#verifier.changed();
    if (this.#isRecordStale) return;
    this.#isRecordStale = true;
    const { clock, store } = this.#options;
    clock.after(RECORD_AFTER_MS, () => {
      this.#isRecordStale = false;
      if (this.#isClosed) return;
      void store
        .freeBytes()
        .catch(() => 0)
        .then((free) => {
          // Rounded, so that other programs that write to the disk rarely change the record.
          const bytes = Math.max(0, free - DISK_RESERVE_BYTES);
          this.#freeBytes = bytes - (bytes % FREE_STEP_BYTES);
          this.#options.onRecord?.();
        });
    });
  }

  #held(): HoldingsState {
    const announced = [...this.#replicas.values()].filter(({ isAnnounced }) => isAnnounced);
    const newest = new Map(announced.map((replica) => [replica.indexVersion, replica]));
    const holdings = Object.entries(placesOf(announced)).flatMap(([indexVersion, places]) => {
      const server = newest.get(indexVersion)?.newestServer();
      if (server === undefined) return [];
      const { service: serviceName, version: serviceVersion } = server;
      const { manifest = '' } = newest.get(indexVersion) ?? {};
      return [{ indexVersion, places, serviceName, serviceVersion, manifest }];
    });
    const failed = [...this.#replicas.values()].filter((one) => !one.isAnnounced && one.status().why !== '');
    return {
      holdings,
      failed: failed.slice(0, FAILURES_EXPLAINED).map((replica) => {
        const { indexVersion, place } = replica;
        return { indexVersion, place, why: replica.status().why.slice(0, WHY_LENGTH_MAX) };
      }),
    };
  }

  /** Every ten minutes, deletes the shards that have been in `old/` for an hour. */
  #sweepLater(): void {
    const { store, clock } = this.#options;
    this.#stopSweeping = clock.after(SWEEP_EVERY_MS, () => {
      this.#sweepLater();
      store.sweepOld(Date.now()).catch(() => undefined);
    });
  }

  /** Moves live shards without an order to `old/`: a crash may have interrupted their removal. */
  async #retireStrays(unknown: ReadonlySet<string>): Promise<void> {
    const { store } = this.#options;
    const isOrdered = (shard: ShardId): boolean =>
      unknown.has(shard.indexVersion) || this.#replicas.has(fullNameOf(shard));
    for (const shard of await store.list()) if (!isOrdered(shard)) await store.retire(shard);
    await store.deleteParts(isOrdered);
  }
}

/** Places by index version, in order. */
function placesOf(replicas: readonly Replica[]): Record<string, string> {
  const places = new Map<string, number[]>();
  for (const { indexVersion, place } of replicas) {
    const found = places.get(indexVersion);
    if (found === undefined) places.set(indexVersion, [place]);
    else found.push(place);
  }
  const versions = [...places].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(versions.map(([indexVersion, own]) => [indexVersion, formatPlaces(own)]));
}

const SWEEP_EVERY_MS = 600_000;
/** Changes of the record within this time are written together. */
const RECORD_AFTER_MS = 500;
/** Free space in the record is a multiple of this. */
const FREE_STEP_BYTES = 256 * 1024 * 1024;
const FAILURES_EXPLAINED = 20;
const EVENTS_A_MINUTE = 20;
const WHY_LENGTH_MAX = 500;
