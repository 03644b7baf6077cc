// What stands in Consul that a leader acts on, as this master sees it: deployments, managers, who is drained, and the
// orders that were given. Every master follows it all the time, so one that begins to lead knows what was before.
// Documents that make no sense are reported; a deployment of which there was a better version before keeps that, for
// nothing is to be ended by a slip of the pen.

import type { Clock } from '../../core/mod.ts';
import type { EventKind } from '../../core/rpc/mod.ts';
import {
  watchPrefix,
  type ConsulClient,
  type ConsulError,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import {
  ASSIGNMENT,
  DEPLOYMENT,
  deploymentId,
  keysOf,
  MANAGER,
  readRecord,
  type AssignmentRecord,
  type Deployment,
  type EventLog,
  type Keys,
  type ManagerRecord,
} from '../mesh/mod.ts';

export interface MeshViewOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Something has changed. */
  readonly onChange: () => void;
  readonly onError: (error: ConsulError) => void;
}

/** An order as it stands. */
export interface Order {
  readonly modifyIndex: number;
  /** Undefined when it makes no sense. */
  readonly record: AssignmentRecord | undefined;
}

export class MeshView {
  readonly #options: MeshViewOptions;
  readonly #keys: Keys;
  readonly #end = new AbortController();
  /** By prefix, then key. */
  readonly #parsed = new Map<string, ReadonlyMap<string, ParsedRecord>>();
  /** Consul's index at which a prefix was last read with certainty. */
  readonly #certainAt = new Map<string, number>();
  #watches: readonly ConsulWatch[] = [];
  #deployments = new Map<string, Deployment>();
  #unreadable: ReadonlySet<string> = new Set();
  #managers = new Map<string, ManagerRecord>();
  #drained: ReadonlySet<string> = new Set();
  #orders = new Map<string, Order>();
  #troubledAtMs: number;

  constructor(options: MeshViewOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
    this.#troubledAtMs = options.clock.nowMs();
  }

  /** Wanted, by id. */
  get deployments(): ReadonlyMap<string, Deployment> {
    return this.#deployments;
  }

  /** Ids of deployments that stand there and never made sense: they are left alone. */
  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** Those that are there, by name. */
  get managers(): ReadonlyMap<string, ManagerRecord> {
    return this.#managers;
  }

  /** Names of managers that are to run nothing. */
  get drained(): ReadonlySet<string> {
    return this.#drained;
  }

  /** By manager. */
  get orders(): ReadonlyMap<string, Order> {
    return this.#orders;
  }

  /** When Consul last failed, or this began; who is missing just after that may be on its way. */
  get troubledAtMs(): number {
    return this.#troubledAtMs;
  }

  stats(): readonly WatchStats[] {
    return this.#watches.map((watch) => watch.stats());
  }

  start(): void {
    const { client, clock, onChange, onError } = this.#options;
    const { signal } = this.#end;
    this.#watches = this.#parts().map(([prefix, take]) =>
      watchPrefix(
        client,
        prefix,
        (entries, { isAfterReset, index }) => {
          if (index < (this.#certainAt.get(prefix) ?? 0)) {
            void this.#readAgain(prefix, take, entries);
            return;
          }
          take(entries, isAfterReset);
          onChange();
        },
        {
          signal,
          clock,
          onError: (error) => {
            this.#troubledAtMs = clock.nowMs();
            onError(error);
          },
        },
      ),
    );
  }

  /** Reads everything now, with certainty, for one who is about to act on it. @throws ConsulError */
  async refresh(signal: AbortSignal): Promise<void> {
    const lists = await Promise.all(
      this.#parts().map(async ([prefix, take]) => {
        const { index, entries } = await this.#options.client.list(prefix, { signal });
        return () => {
          this.#certainAt.set(prefix, index);
          take(new Map(entries.map((entry) => [entry.key, entry])), true);
        };
      }),
    );
    for (const take of lists) take();
  }

  /**
   * A watch has told of a time before the last certain reading: its answer was on its way, or Consul was put back to
   * then. Taken as it is, it could make a leader end what was put back a moment ago; so Consul is asked.
   */
  async #readAgain(prefix: string, take: Take, told: WatchedEntries): Promise<void> {
    const { client, onChange, onError } = this.#options;
    const { signal } = this.#end;
    try {
      const { index, entries } = await client.list(prefix, { signal });
      if (signal.aborted) return;
      this.#certainAt.set(prefix, index);
      take(new Map(entries.map((entry) => [entry.key, entry])), true);
    } catch (error) {
      if (signal.aborted) return;
      onError(error as ConsulError);
      this.#certainAt.delete(prefix);
      take(told, true);
    }
    onChange();
  }

  /** An order was written or (without a record) deleted, which the watch has not told yet. */
  ordered(manager: string, order: Order | undefined): void {
    if (order === undefined) this.#orders.delete(manager);
    else this.#orders.set(manager, order);
  }

  close(): void {
    this.#end.abort();
  }

  #parts(): readonly (readonly [prefix: string, take: Take])[] {
    return [
      [this.#keys.deployments, (entries) => this.#takeDeployments(entries)],
      [this.#keys.managers, (entries) => this.#takeManagers(entries)],
      [this.#keys.drained, (entries) => this.#takeDrained(entries)],
      [this.#keys.assignments, (entries, isCertain) => this.#takeOrders(entries, isCertain)],
    ];
  }

  #takeDeployments(entries: WatchedEntries): void {
    const found = new Map<string, Deployment>();
    const unreadable = new Set<string>();
    const read = this.#readAll(this.#keys.deployments, entries, 'deployment_changed', (path, value) => {
      const record = readRecord(DEPLOYMENT, value);
      if (record instanceof Error || deploymentId(record) === path.replace('/', '@')) return record;
      return new Error(`it says that it is ${deploymentId(record)}`);
    });
    for (const [path, record] of read) {
      const id = path.replace('/', '@');
      const usable = record instanceof Error ? this.#deployments.get(id) : record;
      if (usable === undefined) unreadable.add(id);
      else found.set(id, usable);
    }
    this.#deployments = found;
    this.#unreadable = unreadable;
  }

  #takeManagers(entries: WatchedEntries): void {
    const held = new Map([...entries].filter(([, { session }]) => session !== ''));
    const found = new Map<string, ManagerRecord>();
    const read = this.#readAll(this.#keys.managers, held, 'manager_joined', (_, value) => readRecord(MANAGER, value));
    for (const [name, record] of read) {
      const usable = record instanceof Error ? this.#managers.get(name) : record;
      if (usable !== undefined) found.set(name, usable);
    }
    this.#managers = found;
  }

  #takeDrained(entries: WatchedEntries): void {
    this.#drained = new Set([...entries.keys()].map((key) => key.slice(this.#keys.drained.length)));
  }

  #takeOrders(entries: WatchedEntries, isCertain: boolean): void {
    const found = new Map<string, Order>();
    const { assignments } = this.#keys;
    const read = this.#readAll(assignments, entries, 'assigned', (_, value) => readRecord(ASSIGNMENT, value));
    for (const [name, record] of read) {
      const modifyIndex = entries.get(`${assignments}${name}`)?.modifyIndex ?? 0;
      const own = this.#orders.get(name);
      // What this process wrote itself may be newer than an answer that was on its way.
      if (!isCertain && own !== undefined && own.modifyIndex > modifyIndex) found.set(name, own);
      else found.set(name, { modifyIndex, record: record instanceof Error ? undefined : record });
    }
    this.#orders = found;
  }

  /**
   * All documents below a prefix, by what follows it, sorted. Each is parsed once as long as it stays the same, for
   * managers say often how many live; and reported once when it makes no sense.
   */
  #readAll<T>(
    prefix: string,
    entries: WatchedEntries,
    kind: EventKind,
    parse: (name: string, value: string) => T | Error,
  ): Map<string, T | Error> {
    const before = this.#parsed.get(prefix);
    const parsed = new Map<string, ParsedRecord>();
    const found = new Map<string, T | Error>();
    for (const { key, value } of [...entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1))) {
      const name = key.slice(prefix.length);
      const known = before?.get(key);
      const isKnown = known?.value === value;
      const record = isKnown ? (known.record as T | Error) : parse(name, value);
      if (!isKnown && record instanceof Error) {
        this.#options.events.add(kind, name, `what stands under ${key} is ignored: ${record.message}`);
      }
      parsed.set(key, { value, record });
      found.set(name, record);
    }
    this.#parsed.set(prefix, parsed);
    return found;
  }
}

/** Takes what stands below a prefix; not certain is what may have been overtaken on its way. */
type Take = (entries: WatchedEntries, isCertain: boolean) => void;

interface ParsedRecord {
  readonly value: string;
  readonly record: unknown;
}
