// The leader's orders as this manager obeys them: follows its assignment in Consul and keeps the last one on disk. Refuses an order of an
import type { Clock } from '../../core/mod.ts';
import { pause, watchPrefix, type ConsulClient, type ConsulEntry, type ConsulWatch } from '../consul/mod.ts';
import {
  ASSIGNMENT,
  deploymentId,
  keysOf,
  readRecord,
  type AssignmentRecord,
  type Deployment,
  type EventLog,
} from '../mesh/mod.ts';
import { OrderFile } from './order-file.ts';

// older term than it has seen, since who gave it leads no more. What was ordered goes on until another order says otherwise: neither a Consul
// that is away nor one that came back empty ends anything; only an order of nothing does.
//
// Terms are counted by the leader's key, so they can be compared only within one history of that key. When Consul starts over, or the key was
// made anew, they count from the start again.

import { setMaxListeners } from 'node:events';

export interface OrdersOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Of this manager. */
  readonly name: string;
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Told what to run by order, all of it, whenever that changes. */
  readonly apply: (deployments: readonly Deployment[]) => void;
  /** Told whenever this manager is to run nothing, and when that is over. */
  readonly onDrained?: (isDrained: boolean) => void;
}

export interface OrdersStats {
  readonly term: number;
  /** Who gave the order that is obeyed; '' for none. */
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
  /** What is obeyed. */
  #current: AssignmentRecord | undefined;
  /** What stands in Consul, obeyed or not. */
  #standing: AssignmentRecord | undefined;
  #hasSeenAssignment = false;
  /** Highest seen, of orders and of the leader's lock. */
  #term = 0;
  /** Of the leader's lock alone; it never goes back within a history. */
  #lockTerm = 0;
  /** CreateIndex of the leader's key; 0 while it is not known. */
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
    // Three watches with several requests each: no leak.
    setMaxListeners(0, this.#end.signal);
  }

  /** Resolves when the disk or Consul has said what to run, and after a moment when neither does. */
  async start(): Promise<void> {
    const saved = await this.#file.read();
    const { signal } = this.#end;
    if (signal.aborted) return;
    if (saved !== undefined) {
      this.#term = this.#lockTerm = saved.order.term;
      this.#history = saved.history;
      this.#obey(saved.order, 'as kept on disk, ');
    }
    const assignment = this.#watch(this.#keys.assignment, (entry, isAfterReset) =>
      this.#sawAssignment(entry, isAfterReset),
    );
    const leader = this.#watch(this.#keys.leader, (entry, isAfterReset) => {
      if (isAfterReset) this.#forgetTerms();
      this.#sawLeader(entry);
    });
    this.#watches = [assignment, leader, this.#watch(this.#keys.drained, (entry) => this.#sawDrained(entry))];
    if (saved !== undefined) return;
    const patience = new AbortController();
    await Promise.race([assignment.ready, pause(this.#options.clock, PATIENCE_MS, patience.signal)]);
    patience.abort();
  }

  /** The highest that was seen. */
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

  /** Follows no more; resolves when the last order is on disk. What was ordered is left as it is. */
  async close(): Promise<void> {
    this.#end.abort();
    await this.#file.close();
  }

  /** Other keys may begin with this one. */
  #watch(key: string, onChange: (entry: ConsulEntry | undefined, isAfterReset: boolean) => void): ConsulWatch {
    const { client, clock } = this.#options;
    return watchPrefix(client, key, (entries, { isAfterReset }) => onChange(entries.get(key), isAfterReset), {
      signal: this.#end.signal,
      clock,
    });
  }

  #sawAssignment(entry: ConsulEntry | undefined, isAfterReset: boolean): void {
    const isFirst = !this.#hasSeenAssignment;
    this.#hasSeenAssignment = true;
    if (isAfterReset) {
      this.#forgetTerms();
      void this.#askForLeader();
    }
    this.#standing = undefined;
    if (entry === undefined) return;
    const record = readRecord(ASSIGNMENT, entry.value);
    if (record instanceof Error) {
      this.#refuse(entry.key, `is not as an order has to be; what was ordered before goes on. ${record.message}`);
      return;
    }
    if (this.#lockTerm > 0 && record.term > this.#lockTerm + TERM_LEAP_MAX) {
      const why = `is of term ${record.term} and the leader's lock has come to ${this.#lockTerm}: it is damaged; what was ordered before goes on`;
      this.#refuse(entry.key, why);
      return;
    }
    this.#standing = record;
    // One that stood before this manager came is all there is to go by, also when its leader has gone since.
    if (isFirst && this.#current === undefined) this.#obey(record, '');
    else this.#consider(record);
  }

  #consider(order: AssignmentRecord): void {
    if (order.term >= this.#term) {
      this.#obey(order, '');
      return;
    }
    if (isSame(order, this.#current)) return;
    this.#refuse(
      order.leader,
      `its order is of term ${order.term}, term ${this.#term} has begun: it leads no more and may not know it. What was ordered before goes on`,
    );
  }

  #obey(order: AssignmentRecord, how: string): void {
    const { apply, events, name } = this.#options;
    const before = this.#current;
    this.#term = Math.max(this.#term, order.term);
    this.#current = order;
    if (before?.term !== order.term || before.leader !== order.leader || !isSame(order, before)) this.#save();
    if (isSame(order, before)) return;
    const what = order.deployments.map((one) => `${deploymentId(one)} x${one.count}`).join(', ') || 'nothing';
    events.add('assigned', name, `${how}by ${order.leader} in term ${order.term}: ${what}`);
    apply(order.deployments);
  }

  #refuse(subject: string, text: string): void {
    this.#refused++;
    this.#options.events.add('order_refused', subject, text);
  }

  #sawLeader(entry: ConsulEntry | undefined): void {
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
    // What was refused by the terms of before may count now.
    if (isNew && this.#standing !== undefined) this.#consider(this.#standing);
  }

  /** After a reset this watch may speak before the one of the leader, or after it; so the leader is asked for once more. */
  async #askForLeader(): Promise<void> {
    const { client } = this.#options;
    const entry = await client.get(this.#keys.leader, this.#end.signal).catch(() => undefined);
    this.#sawLeader(entry);
  }

  #forgetTerms(): void {
    if (this.#term > 0) {
      const text = `another history of terms has begun; they had come to ${this.#term}. What was ordered goes on`;
      this.#options.events.add('consul_found', this.#options.client.address, text);
    }
    this.#term = 0;
    this.#lockTerm = 0;
  }

  #sawDrained(entry: ConsulEntry | undefined): void {
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

/** They say to run the same. */
function isSame(order: AssignmentRecord, other: AssignmentRecord | undefined): boolean {
  return other !== undefined && JSON.stringify(order.deployments) === JSON.stringify(other.deployments);
}

/** How long a start waits for Consul. */
const PATIENCE_MS = 3_000;
/** No order is so far ahead of the lock: obeyed, it would shut out every right one for good. */
const TERM_LEAP_MAX = 100_000;
