// The agent's data. All changes are commands (plain data): a command is checked, applied, gets the next index, goes
// to `onCommit` (the journal) and wakes blocking queries, in one synchronous step. Replaying the same commands on
// the same snapshot gives the same state, which restores the agent after a restart. Time matters only for lock
// delays, which stay in memory, as in Consul.

import type { Clock } from '../../core/mod.ts';
import { CatalogTable, type NewCheck, type NewNode, type NewService } from './catalog-table.ts';
import { Refusal } from './go-compat.ts';
import { KvTable, runKv, type KvEntry, type KvOperation, type Undo } from './kv-table.ts';
import { checksOf, SessionTable, type NewSession, type Session } from './session-table.ts';
import type { Touched } from './watchers.ts';

export type Command =
  | { readonly op: 'kv'; readonly operation: KvOperation }
  | { readonly op: 'txn'; readonly operations: readonly KvOperation[] }
  | { readonly op: 'session-create'; readonly session: NewSession }
  | { readonly op: 'session-destroy'; readonly id: string }
  | { readonly op: 'node'; readonly node: NewNode }
  | { readonly op: 'service'; readonly node: string; readonly service: NewService }
  | { readonly op: 'check'; readonly check: NewCheck }
  | { readonly op: 'service-delete'; readonly node: string; readonly id: string }
  | { readonly op: 'check-delete'; readonly node: string; readonly id: string }
  | { readonly op: 'node-delete'; readonly node: string };

/** A record of a snapshot, by table. */
export type StateRecord =
  | { readonly table: 'state'; readonly index?: number }
  | ({ readonly table: 'kv' } & Parameters<KvTable['restore']>[0])
  | ({ readonly table: 'sessions' } & Parameters<SessionTable['restore']>[0])
  | ({ readonly table: 'catalog' } & Parameters<CatalogTable['restore']>[0]);

export interface KvResult {
  readonly isDone: boolean;
  /** Entries that the operations return. Entries of writes have no value, as in Consul's transactions. */
  readonly entries: readonly KvEntry[];
  readonly errors: readonly { readonly OpIndex: number; readonly What: string }[];
}

export interface StateOptions {
  readonly clock: Clock;
  /** Limit of the total size of keys and values. Writes above it are refused. */
  readonly dataBytesMax: number;
  readonly onCommit: (index: number, command: Command) => void;
  readonly onTouched: (touched: Touched) => void;
  readonly onSessionGone: (id: string) => void;
}

/** Maximum lock delay; Consul shortens longer ones. */
const LOCK_DELAY_MAX_NS = 60e9;

export class AgentState {
  readonly kv: KvTable = new KvTable();
  readonly sessions: SessionTable = new SessionTable();
  readonly catalog: CatalogTable = new CatalogTable();
  readonly #options: StateOptions;
  /** Time at which a key can be locked again, by key. */
  readonly #lockDelays = new Map<string, number>();
  #index = 0;
  #isReplaying = false;
  #touched: { keys: string[]; hasSessions: boolean; hasCatalog: boolean } = {
    keys: [],
    hasSessions: false,
    hasCatalog: false,
  };
  #sessionsGone: string[] = [];

  constructor(options: StateOptions) {
    this.#options = options;
  }

  /** Index of the last change. */
  get index(): number {
    return this.#index;
  }

  /** Runs one key-value write. */
  write(operation: KvOperation): KvResult {
    return this.#runKv({ op: 'kv', operation });
  }

  /** Runs a transaction: all operations or none. */
  transact(operations: readonly KvOperation[]): KvResult {
    return this.#runKv({ op: 'txn', operations });
  }

  createSession(session: NewSession): Session {
    if (this.catalog.node(session.Node) === undefined) throw new Refusal(500, 'Missing node registration');
    for (const id of checksOf(session)) {
      const check = this.catalog.check(session.Node, id);
      if (check === undefined) throw new Refusal(500, `Missing check '${id}' registration`);
      if (check.Status === 'critical') throw new Refusal(500, `Check '${id}' is in critical state`);
    }
    this.#commit({ op: 'session-create', session });
    return this.sessions.get(session.ID)!;
  }

  destroySession(id: string): void {
    if (this.sessions.get(id) !== undefined) this.#commit({ op: 'session-destroy', id });
  }

  putNode(node: NewNode): void {
    this.#commit({ op: 'node', node });
  }
  putService(node: string, service: NewService): void {
    this.#commit({ op: 'service', node, service });
  }
  putCheck(check: NewCheck): void {
    this.#commit({ op: 'check', check });
  }
  deleteService(node: string, id: string): void {
    this.#commit({ op: 'service-delete', node, id });
  }
  deleteCheck(node: string, id: string): void {
    this.#commit({ op: 'check-delete', node, id });
  }
  deleteNode(node: string): void {
    this.#commit({ op: 'node-delete', node });
  }

  /** Returns all records, for a snapshot. */
  *records(): Iterable<unknown> {
    yield { table: 'state', index: this.#index };
    yield* this.kv.records();
    yield* this.sessions.records();
    yield* this.catalog.records();
  }

  /** Restores one record of a snapshot. */
  restore(record: StateRecord): void {
    switch (record.table) {
      case 'state':
        this.#index = record.index ?? 0;
        break;
      case 'kv':
        this.kv.restore(record);
        break;
      case 'sessions':
        this.sessions.restore(record);
        break;
      case 'catalog':
        this.catalog.restore(record);
        break;
    }
  }

  /** Replays one command of the journal. */
  replay(index: number, command: Command): void {
    if (index <= this.#index) return;
    this.#isReplaying = true;
    try {
      this.#apply(command, index);
    } finally {
      this.#isReplaying = false;
      this.#settle();
    }
    this.#index = index;
  }

  #runKv(command: Extract<Command, { op: 'kv' | 'txn' }>): KvResult {
    const operations = command.op === 'kv' ? [command.operation] : command.operations;
    for (const [at, operation] of operations.entries()) {
      if (operation.verb === 'lock' && this.#isDelayed(operation.key)) {
        const why = `failed to lock key ${JSON.stringify(operation.key)} due to lock delay`;
        return { isDone: false, entries: [], errors: [{ OpIndex: at, What: why }] };
      }
      const grows = operation.key.length + (operation.value?.length ?? 0);
      if (operation.value !== null && this.kv.bytes + grows > this.#options.dataBytesMax) {
        throw new Refusal(
          413,
          `The agent's store is full: it holds ${this.kv.bytes} bytes, limit is ${this.#options.dataBytesMax}`,
        );
      }
    }
    const { result, isChanged } = this.#applyKv(operations, this.#index + 1, command.op === 'txn');
    if (isChanged) this.#committed(command);
    return result;
  }

  #commit(command: Command): void {
    if (this.#apply(command, this.#index + 1)) this.#committed(command);
  }

  #committed(command: Command): void {
    this.#index++;
    this.#options.onCommit(this.#index, command);
    this.#settle();
  }

  /** Wakes blocking queries and forgets ended sessions. Called once the change is complete and in the journal. */
  #settle(): void {
    const touched = this.#touched;
    const gone = this.#sessionsGone;
    this.#touched = { keys: [], hasSessions: false, hasCatalog: false };
    this.#sessionsGone = [];
    if (this.#isReplaying) return;
    for (const id of gone) this.#options.onSessionGone(id);
    this.#options.onTouched(touched);
  }

  /** Applies a command. Returns true if something changed. */
  #apply(command: Command, index: number): boolean {
    switch (command.op) {
      case 'kv':
        return this.#applyKv([command.operation], index, false).isChanged;
      case 'txn':
        return this.#applyKv(command.operations, index, true).isChanged;
      case 'session-create':
        this.sessions.put({ ...command.session, CreateIndex: index, ModifyIndex: index });
        this.#touched.hasSessions = true;
        return true;
      case 'session-destroy':
        return this.#endSession(command.id, index);
      case 'node':
        return this.#catalogTouched(this.catalog.putNode(command.node, index));
      case 'service':
        return this.#catalogTouched(this.catalog.putService(command.node, command.service, index));
      case 'check': {
        const isChanged = this.catalog.putCheck(command.check, index);
        if (command.check.Status === 'critical') this.#endSessionsOn(command.check.Node, command.check.CheckID, index);
        return this.#catalogTouched(isChanged);
      }
      case 'service-delete': {
        const checks = this.catalog.deleteService(command.node, command.id, index);
        for (const check of checks ?? []) this.#endSessionsOn(command.node, check, index);
        return this.#catalogTouched(checks !== undefined);
      }
      case 'check-delete': {
        const isChanged = this.catalog.deleteCheck(command.node, command.id, index);
        if (isChanged) this.#endSessionsOn(command.node, command.id, index);
        return this.#catalogTouched(isChanged);
      }
      case 'node-delete': {
        for (const session of this.sessions.list())
          if (session.Node === command.node) this.#endSession(session.ID, index);
        return this.#catalogTouched(this.catalog.deleteNode(command.node, index));
      }
    }
  }

  #catalogTouched(isChanged: boolean): boolean {
    if (isChanged) this.#touched.hasCatalog = true;
    return isChanged;
  }

  #applyKv(
    operations: readonly KvOperation[],
    index: number,
    isTransaction: boolean,
  ): { result: KvResult; isChanged: boolean } {
    const undo: Undo[] = [];
    const entries: KvEntry[] = [];
    const errors: { OpIndex: number; What: string }[] = [];
    const changed: string[] = [];
    for (const [at, operation] of operations.entries()) {
      try {
        const outcome = runKv(this.kv, operation, index, (id) => this.sessions.get(id) !== undefined, undo);
        if (outcome.done) {
          entries.push(...outcome.entries);
          changed.push(...outcome.changed);
        } else errors.push({ OpIndex: at, What: outcome.why });
      } catch (error) {
        if (!isTransaction || !(error instanceof Refusal)) throw error;
        errors.push({ OpIndex: at, What: error.message });
      }
    }
    if (errors.length > 0) {
      for (const step of undo.toReversed()) step();
      return { result: { isDone: false, entries: [], errors }, isChanged: false };
    }
    this.#touched.keys.push(...changed);
    return { result: { isDone: true, entries, errors }, isChanged: changed.length > 0 };
  }

  #endSessionsOn(node: string, check: string, index: number): void {
    for (const session of this.sessions.onCheck(node, check)) this.#endSession(session.ID, index);
  }

  /** Ends a session: releases or deletes its keys and starts the lock delay. */
  #endSession(id: string, index: number): boolean {
    const session = this.sessions.get(id);
    if (session === undefined) return false;
    this.sessions.delete(session.ID, index);
    for (const entry of this.kv.heldBy(session.ID)) {
      if (session.Behavior === 'delete') this.kv.delete(entry.Key, index, []);
      else this.kv.set(entry, null, index, []);
      this.#touched.keys.push(entry.Key);
      this.#delayLocks(entry.Key, Math.min(session.LockDelay, LOCK_DELAY_MAX_NS) / 1e6);
    }
    this.#touched.hasSessions = true;
    this.#sessionsGone.push(session.ID);
    return true;
  }

  #delayLocks(key: string, delayMs: number): void {
    if (delayMs <= 0 || this.#isReplaying) return;
    const untilMs = this.#options.clock.nowMs() + delayMs;
    this.#lockDelays.set(key, untilMs);
    this.#options.clock.after(delayMs, () => {
      if (this.#lockDelays.get(key) === untilMs) this.#lockDelays.delete(key);
    });
  }

  #isDelayed(key: string): boolean {
    return (this.#lockDelays.get(key) ?? 0) > this.#options.clock.nowMs();
  }
}
