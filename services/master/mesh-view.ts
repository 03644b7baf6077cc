// This master's view of the state in Consul that a leader acts on: deployments, managers, drained managers, and
// orders. Every master keeps it up to date, so a new leader knows the previous state. Invalid documents are
// reported. If a deployment or manager record becomes invalid, the view keeps its last valid version, so that a
// typing error does not stop a service.

import type { Clock } from '../../core/mod.ts';
import type { EventKind } from '../../core/rpc/mod.ts';
import {
  watchPrefix,
  type ConsulClient,
  type ConsulEntry,
  type ConsulError,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import {
  ASSIGNMENT,
  DEPLOYMENT,
  deploymentId,
  HOLDINGS,
  idOfPath,
  INDEX,
  indexIdOf,
  keysOf,
  MANAGER,
  readEntry,
  ROLLOUT,
  type AssignmentRecord,
  type Deployment,
  type EventLog,
  type HoldingsRecord,
  type IndexRecord,
  type Keys,
  type ManagerRecord,
  type Rollout,
} from '../mesh/mod.ts';
import type { z } from 'zod';

export interface MeshViewOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Called after each change. */
  readonly onChange: () => void;
  readonly onError: (error: ConsulError) => void;
}

/** An order in Consul. */
export interface Order {
  readonly modifyIndex: number;
  /** Undefined if the document is invalid. */
  readonly record: AssignmentRecord | undefined;
}

export class MeshView {
  readonly #options: MeshViewOptions;
  readonly #keys: Keys;
  readonly #end = new AbortController();
  /** Parsed documents by prefix, then key. */
  readonly #parsed = new Map<string, ReadonlyMap<string, ParsedRecord>>();
  /** Consul index of the last consistent read of each prefix. */
  readonly #certainAt = new Map<string, number>();
  /** Responses of the watch of each prefix that were taken, and the Consul index of the last one. */
  readonly #watched = new Map<string, { readonly count: number; readonly index: number }>();
  #watches: readonly ConsulWatch[] = [];
  #deployments: ReadonlyMap<string, Deployment> = new Map();
  #unreadable: ReadonlySet<string> = new Set();
  #indices: ReadonlyMap<string, IndexRecord> = new Map();
  #unreadableIndices: ReadonlySet<string> = new Set();
  #holdings = new Map<string, HoldingsRecord>();
  #managers = new Map<string, ManagerRecord>();
  #drained: ReadonlySet<string> = new Set();
  #rollouts: ReadonlyMap<string, Rollout> = new Map();
  #orders = new Map<string, Order>();
  #lastErrorAtMs: number;

  constructor(options: MeshViewOptions) {
    this.#options = options;
    this.#keys = keysOf(options.mesh);
    this.#lastErrorAtMs = options.clock.nowMs();
  }

  /** Desired deployments by id. */
  get deployments(): ReadonlyMap<string, Deployment> {
    return this.#deployments;
  }

  /** Ids of deployments whose document has never been valid. The leader does not change them. */
  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** Wanted index versions, by `name@version`. */
  get indices(): ReadonlyMap<string, IndexRecord> {
    return this.#indices;
  }

  /** Index versions whose document has never been valid. The leader does not change their shards. */
  get unreadableIndices(): ReadonlySet<string> {
    return this.#unreadableIndices;
  }

  /** What managers hold of indices; absent until they hold something. */
  get holdings(): ReadonlyMap<string, HoldingsRecord> {
    return this.#holdings;
  }

  /** Managers with a live session, by name. */
  get managers(): ReadonlyMap<string, ManagerRecord> {
    return this.#managers;
  }

  /** Names of drained managers. */
  get drained(): ReadonlySet<string> {
    return this.#drained;
  }

  /** Rollouts by service. */
  get rollouts(): ReadonlyMap<string, Rollout> {
    return this.#rollouts;
  }

  /** Orders by manager. */
  get orders(): ReadonlyMap<string, Order> {
    return this.#orders;
  }

  /**
   * Time of the last Consul error, or of the start. Managers that are missing shortly after it may be reconnecting.
   */
  get lastErrorAtMs(): number {
    return this.#lastErrorAtMs;
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
            void this.#reread(prefix, take, entries);
            return;
          }
          this.#watched.set(prefix, { count: this.#takenOf(prefix) + 1, index });
          take(entries, isAfterReset);
          onChange();
        },
        {
          signal,
          clock,
          onError: (error) => {
            this.#lastErrorAtMs = clock.nowMs();
            onError(error);
          },
        },
      ),
    );
  }

  /** Reads everything with consistent reads, before a leader acts on it. @throws ConsulError */
  async refresh(signal: AbortSignal): Promise<void> {
    const lists = await Promise.all(
      this.#parts().map(async ([prefix, take]) => {
        const takenBefore = this.#takenOf(prefix);
        const { index, entries } = await this.#options.client.list(prefix, { signal });
        return () => this.#takeRead(prefix, take, { index, entries, takenBefore });
      }),
    );
    for (const take of lists) take();
  }

  /** Takes a consistent read, unless the watch has shown something newer since it was sent. */
  #takeRead(
    prefix: string,
    take: Take,
    read: { readonly index: number; readonly entries: readonly ConsulEntry[]; readonly takenBefore: number },
  ): void {
    this.#certainAt.set(prefix, read.index);
    const watched = this.#watched.get(prefix);
    if (watched !== undefined && watched.count > read.takenBefore && watched.index > read.index) return;
    take(new Map(read.entries.map((entry) => [entry.key, entry])), true);
  }

  #takenOf(prefix: string): number {
    return this.#watched.get(prefix)?.count ?? 0;
  }

  /**
   * A watch returned an index below the last consistent read: its response was delayed, or Consul was restored from
   * an older backup. A leader that acts on it could stop copies that were just restored. So this reads again.
   */
  async #reread(prefix: string, take: Take, entriesOfWatch: WatchedEntries): Promise<void> {
    const { client, onChange, onError } = this.#options;
    const { signal } = this.#end;
    const takenBefore = this.#takenOf(prefix);
    try {
      const { index, entries } = await client.list(prefix, { signal });
      if (signal.aborted) return;
      this.#takeRead(prefix, take, { index, entries, takenBefore });
    } catch (error) {
      if (signal.aborted) return;
      onError(error as ConsulError);
      this.#certainAt.delete(prefix);
      take(entriesOfWatch, true);
    }
    onChange();
  }

  /** Records an order that this process wrote or (if undefined) deleted, before the watch reports it. */
  recordOrder(manager: string, order: Order | undefined): void {
    if (order === undefined) this.#orders.delete(manager);
    else this.#orders.set(manager, order);
  }

  close(): void {
    this.#end.abort();
  }

  #parts(): readonly (readonly [prefix: string, take: Take])[] {
    return [
      [this.#keys.deployments, (entries) => this.#takeDeployments(entries)],
      [this.#keys.indices, (entries) => this.#takeIndices(entries)],
      [this.#keys.holdings, (entries) => this.#takeHoldings(entries)],
      [this.#keys.managers, (entries) => this.#takeManagers(entries)],
      [this.#keys.drained, (entries) => this.#takeDrained(entries)],
      [this.#keys.rollouts, (entries) => this.#takeRollouts(entries)],
      [this.#keys.assignments, (entries, isCertain) => this.#takeOrders(entries, isCertain)],
    ];
  }

  #takeDeployments(entries: WatchedEntries): void {
    const { deployments } = this.#keys;
    const { found, unreadable } = this.#readVersions(DEPLOYMENT, deployments, entries, deploymentId, this.#deployments);
    this.#deployments = found;
    this.#unreadable = unreadable;
  }

  #takeIndices(entries: WatchedEntries): void {
    const { indices } = this.#keys;
    const { found, unreadable } = this.#readVersions(INDEX, indices, entries, indexIdOf, this.#indices);
    this.#indices = found;
    this.#unreadableIndices = unreadable;
  }

  /**
   * Reads documents with keys such as `wiki/3.0.0`. Returns them by id, `wiki@3.0.0`. A document that cannot be read
   * keeps its last valid value; without one it is unreadable.
   */
  #readVersions<T>(
    schema: z.ZodType<T>,
    prefix: string,
    entries: WatchedEntries,
    idOf: (record: T) => string,
    last: ReadonlyMap<string, T>,
  ): { readonly found: ReadonlyMap<string, T>; readonly unreadable: ReadonlySet<string> } {
    const found = new Map<string, T>();
    const unreadable = new Set<string>();
    const read = this.#readAll(prefix, entries, 'deployment_changed', (path, entry) => {
      const record = readEntry(schema, entry);
      if (record instanceof Error || idOf(record) === idOfPath(path)) return record;
      return new Error(`its content is for ${idOf(record)}`);
    });
    for (const [path, record] of read) {
      const id = idOfPath(path);
      const valid = record instanceof Error ? last.get(id) : record;
      if (valid === undefined) unreadable.add(id);
      else found.set(id, valid);
    }
    return { found, unreadable };
  }

  #takeHoldings(entries: WatchedEntries): void {
    const held = new Map([...entries].filter(([, { session }]) => session !== ''));
    const read = this.#readAll(this.#keys.holdings, held, 'assigned', (_, entry) => readEntry(HOLDINGS, entry));
    this.#holdings = new Map();
    for (const [name, record] of read) if (!(record instanceof Error)) this.#holdings.set(name, record);
  }

  #takeManagers(entries: WatchedEntries): void {
    const held = new Map([...entries].filter(([, { session }]) => session !== ''));
    const found = new Map<string, ManagerRecord>();
    const read = this.#readAll(this.#keys.managers, held, 'manager_joined', (_, entry) => readEntry(MANAGER, entry));
    for (const [name, record] of read) {
      const valid = record instanceof Error ? this.#managers.get(name) : record;
      if (valid !== undefined) found.set(name, valid);
    }
    this.#managers = found;
  }

  #takeDrained(entries: WatchedEntries): void {
    const { drained } = this.#keys;
    const read = this.#readAll(drained, entries, 'drained', (_, { problem }) =>
      problem === '' ? {} : new Error(problem),
    );
    this.#drained = new Set([...read].filter(([, record]) => !(record instanceof Error)).map(([name]) => name));
  }

  #takeRollouts(entries: WatchedEntries): void {
    const read = this.#readAll(this.#keys.rollouts, entries, 'rollout_changed', (_, entry) =>
      readEntry(ROLLOUT, entry),
    );
    const found = new Map<string, Rollout>();
    for (const [service, record] of read) if (!(record instanceof Error)) found.set(service, record);
    this.#rollouts = found;
  }

  #takeOrders(entries: WatchedEntries, isCertain: boolean): void {
    const found = new Map<string, Order>();
    const { assignments } = this.#keys;
    const read = this.#readAll(assignments, entries, 'assigned', (_, entry) => readEntry(ASSIGNMENT, entry));
    for (const [name, record] of read) {
      const modifyIndex = entries.get(`${assignments}${name}`)?.modifyIndex ?? 0;
      const own = this.#orders.get(name);
      // An order that this process wrote may be newer than a delayed watch response.
      if (!isCertain && own !== undefined && own.modifyIndex > modifyIndex) found.set(name, own);
      else found.set(name, { modifyIndex, record: record instanceof Error ? undefined : record });
    }
    this.#orders = found;
  }

  /**
   * Reads all documents below a prefix, sorted, by the rest of their key. Each value is parsed only once, because
   * managers update their records often. An invalid value is reported once.
   */
  #readAll<T>(
    prefix: string,
    entries: WatchedEntries,
    kind: EventKind,
    parse: (name: string, entry: ConsulEntry) => T | Error,
  ): Map<string, T | Error> {
    const before = this.#parsed.get(prefix);
    const parsed = new Map<string, ParsedRecord>();
    const found = new Map<string, T | Error>();
    for (const entry of [...entries.values()].sort((a, b) => (a.key < b.key ? -1 : 1))) {
      const { key, value, problem } = entry;
      const name = key.slice(prefix.length);
      const known = before?.get(key);
      const isKnown = known?.value === value && known.problem === problem;
      const record = isKnown ? (known.record as T | Error) : parse(name, entry);
      if (!isKnown && record instanceof Error) {
        this.#options.events.add(kind, name, `the value of ${key} is ignored: ${record.message}`);
      }
      parsed.set(key, { value, problem, record });
      found.set(name, record);
    }
    this.#parsed.set(prefix, parsed);
    return found;
  }
}

/** Applies the entries below a prefix. `isCertain` is false if the entries come from a watch and may be outdated. */
type Take = (entries: WatchedEntries, isCertain: boolean) => void;

interface ParsedRecord {
  readonly value: string;
  readonly problem: string;
  readonly record: unknown;
}
