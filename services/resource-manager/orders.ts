// The assignments of the leader to this manager. Follows the assignment in Consul and keeps the last one on disk.
// Rejects an assignment with an older term than it has seen, because its author is not the leader any more. An
// assignment stays in force until another one replaces it. An unreachable or empty Consul stops nothing; only an
// empty assignment does.
//
// A term is the lock index of the leader's key, so terms compare only within one history of that key. When Consul
// loses its data, or the key is created anew, terms restart.

import type { Clock } from '../../core/mod.ts';
import { pause, watchPrefix, type ConsulClient, type ConsulEntry, type ConsulWatch } from '../consul/mod.ts';
import {
  ASSIGNMENT,
  deploymentId,
  keysOf,
  readEntry,
  type AssignmentRecord,
  type Deployment,
  type EventLog,
  type ShardsOrder,
} from '../mesh/mod.ts';
import { OrderFile } from './order-file.ts';

import { setMaxListeners } from 'node:events';

export interface OrdersOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of this manager. */
  readonly name: string;
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Called with all assigned deployments whenever they change. */
  readonly apply: (deployments: readonly Deployment[]) => void;
  /** Called with all assigned shards of indices whenever the assignment changes. */
  readonly applyShards?: (shards: readonly ShardsOrder[]) => void;
  /** Called when an operator drains or undrains this manager. */
  readonly onDrained?: (isDrained: boolean) => void;
}

export interface OrdersStats {
  readonly term: number;
  /** Author of the current assignment; '' for none. */
  readonly leader: string;
  readonly refused: number;
  readonly watches: readonly ReturnType<ConsulWatch['stats']>[];
}

export class Orders {
  readonly #options: OrdersOptions;
  readonly #file: OrderFile;
  readonly #end = new AbortController();
  readonly #keys: { readonly assignment: string; readonly leader: string; readonly drained: string };
  #watches: readonly ConsulWatch[] = [];
  /** The assignment in force. */
  #current: AssignmentRecord | undefined;
  /** The assignment in Consul, in force or rejected. */
  #inConsul: AssignmentRecord | undefined;
  #hasSeenAssignment = false;
  /** Highest term seen, in assignments and in the leader's lock. */
  #term = 0;
  /** Term of the leader's lock; never decreases within a history. */
  #lockTerm = 0;
  /** Responses of the watch of the leader's key. */
  #leaderShown = 0;
  /** CreateIndex of the leader's key; 0 while unknown. */
  #history = 0;
  #isDrained = false;
  #refused = 0;

  constructor(options: OrdersOptions) {
    this.#options = options;
    const { mesh, name, dataDir, events } = options;
    const { assignments, leader, drained } = keysOf(mesh);
    this.#keys = { assignment: `${assignments}${name}`, leader, drained: `${drained}${name}` };
    this.#file = new OrderFile({
      dataDir,
      mesh,
      manager: name,
      onTrouble: (text) => events.add('order_refused', this.#file.path, text),
    });
    // Three watches with several requests each listen on this signal, so Node's warning of a leak would be wrong.
    setMaxListeners(0, this.#end.signal);
  }

  /** Resolves when an assignment was read from disk or from Consul, or after 3 s without one. */
  async start(): Promise<void> {
    const saved = await this.#file.read();
    const { signal } = this.#end;
    if (signal.aborted) return;
    if (saved !== undefined) {
      this.#term = this.#lockTerm = saved.order.term;
      this.#history = saved.history;
      this.#apply(saved.order, 'from disk, ');
    }
    const assignment = this.#watch(this.#keys.assignment, (entry, isAfterReset) =>
      this.#onAssignment(entry, isAfterReset),
    );
    const leader = this.#watch(this.#keys.leader, (entry, isAfterReset) => {
      this.#leaderShown++;
      if (isAfterReset) this.#forgetTerms();
      this.#onLeader(entry);
    });
    this.#watches = [assignment, leader, this.#watch(this.#keys.drained, (entry) => this.#onDrainedKey(entry))];
    if (saved !== undefined) return;
    const timer = new AbortController();
    await Promise.race([assignment.ready, pause(this.#options.clock, START_WAIT_MS, timer.signal)]);
    timer.abort();
  }

  /** The highest term seen. */
  get term(): number {
    return this.#term;
  }

  stats(): OrdersStats {
    return {
      term: this.#term,
      leader: this.#current?.leader ?? '',
      refused: this.#refused,
      watches: this.#watches.map((watch) => watch.stats()),
    };
  }

  /** Stops the watches; resolves when the last assignment is on disk. The deployments keep running. */
  async close(): Promise<void> {
    this.#end.abort();
    await this.#file.close();
  }

  /** Watches one key. Consul watches by prefix, and other keys may begin with this one. */
  #watch(key: string, onChange: (entry: ConsulEntry | undefined, isAfterReset: boolean) => void): ConsulWatch {
    const { client, clock } = this.#options;
    return watchPrefix(client, key, (entries, { isAfterReset }) => onChange(entries.get(key), isAfterReset), {
      signal: this.#end.signal,
      clock,
    });
  }

  #onAssignment(entry: ConsulEntry | undefined, isAfterReset: boolean): void {
    const isFirst = !this.#hasSeenAssignment;
    this.#hasSeenAssignment = true;
    if (isAfterReset) {
      this.#forgetTerms();
      void this.#readLeader();
    }
    this.#inConsul = undefined;
    if (entry === undefined) return;
    const record = readEntry(ASSIGNMENT, entry);
    if (record instanceof Error) {
      this.#refuse(entry.key, `is not a valid assignment; the previous one stays in force. ${record.message}`);
      return;
    }
    if (this.#lockTerm > 0 && record.term > this.#lockTerm + TERM_LEAP_MAX) {
      const why = `has term ${record.term}, but the leader's lock is at term ${this.#lockTerm}: the assignment is damaged; the previous one stays in force`;
      this.#refuse(entry.key, why);
      return;
    }
    this.#inConsul = record;
    // At the start of this manager any assignment is better than none, even if its author is not the leader any more.
    if (isFirst && this.#current === undefined) this.#apply(record, '');
    else this.#consider(record);
  }

  #consider(given: AssignmentRecord): void {
    const order = this.#withShards(given);
    if (order.term >= this.#term) {
      this.#apply(order, '');
      return;
    }
    if (isSame(order, this.#current)) return;
    this.#refuse(
      order.leader,
      `its assignment has term ${order.term}, but term ${this.#term} has begun: it is not the leader any more. The previous assignment stays in force`,
    );
  }

  /** An assignment that says nothing about shards leaves them as they are, on disk too. */
  #withShards(order: AssignmentRecord): AssignmentRecord {
    const shards = order.shards ?? this.#current?.shards;
    return shards === undefined ? order : { ...order, shards };
  }

  #apply(order: AssignmentRecord, how: string): void {
    const { apply, applyShards, events, name } = this.#options;
    const before = this.#current;
    this.#term = Math.max(this.#term, order.term);
    this.#current = order;
    if (before?.term !== order.term || before.leader !== order.leader || !isSame(order, before)) this.#save();
    if (isSame(order, before)) return;
    const what = [
      ...order.deployments.map((one) => `${deploymentId(one)} x${one.count}`),
      ...(order.shards ?? []).map((one) => `shards ${one.places} of ${one.indexVersion}`),
    ];
    events.add('assigned', name, `${how}by ${order.leader} in term ${order.term}: ${what.join(', ') || 'nothing'}`);
    try {
      apply(order.deployments);
      if (order.shards !== undefined) applyShards?.(order.shards);
    } catch (error) {
      // An order is replayed at every start, and moves to another manager when this one ends.
      this.#refuse(order.leader, `its assignment cannot be carried out: ${(error as Error).message}`);
    }
  }

  #refuse(subject: string, text: string): void {
    this.#refused++;
    this.#options.events.add('order_refused', subject, text);
  }

  #onLeader(entry: ConsulEntry | undefined): void {
    if (entry === undefined) return;
    const isOther = this.#history !== 0 && entry.createIndex !== this.#history;
    const isNew = isOther || entry.lockIndex < this.#lockTerm;
    if (isNew) this.#forgetTerms();
    this.#lockTerm = entry.lockIndex;
    this.#term = Math.max(this.#term, entry.lockIndex);
    if (entry.createIndex !== this.#history) {
      this.#history = entry.createIndex;
      this.#save();
    }
    // An assignment that the old terms rejected may be valid now.
    if (isNew && this.#inConsul !== undefined) this.#consider(this.#inConsul);
  }

  /**
   * Reads the leader's key once more after a reset, because its watch may report before or after the one of the
   * assignment.
   */
  async #readLeader(): Promise<void> {
    const { client } = this.#options;
    const shownBefore = this.#leaderShown;
    const entry = await client.get(this.#keys.leader, this.#end.signal).catch(() => undefined);
    // What the watch has shown meanwhile may be newer.
    if (this.#leaderShown === shownBefore) this.#onLeader(entry);
  }

  #forgetTerms(): void {
    if (this.#term > 0) {
      const text = `the history of terms has restarted; the last term was ${this.#term}. The assignment stays in force`;
      this.#options.events.add('consul_found', this.#options.client.address, text);
    }
    this.#term = 0;
    this.#lockTerm = 0;
  }

  #onDrainedKey(entry: ConsulEntry | undefined): void {
    if (entry !== undefined && entry.problem !== '') {
      this.#refuse(entry.key, `is ignored: ${entry.problem}`);
      return;
    }
    const isDrained = entry !== undefined;
    if (isDrained === this.#isDrained) return;
    this.#isDrained = isDrained;
    this.#options.onDrained?.(isDrained);
  }

  #save(): void {
    if (this.#current === undefined) return;
    const { mesh, name } = this.#options;
    this.#file.write({ mesh, manager: name, history: this.#history, order: this.#current });
  }
}

/** Whether two assignments have the same deployments and shards. */
function isSame(order: AssignmentRecord, other: AssignmentRecord | undefined): boolean {
  const contentOf = ({ deployments, shards }: AssignmentRecord): string => JSON.stringify([deployments, shards]);
  return other !== undefined && contentOf(order) === contentOf(other);
}

/** How long the start waits for Consul. */
const START_WAIT_MS = 3_000;
/** An assignment further ahead of the lock is damaged. Accepting it would reject every valid one for good. */
const TERM_LEAP_MAX = 100_000;
