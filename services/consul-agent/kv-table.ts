// The key-value table: entries, tombstones of deletes, and all write operations of Consul. AgentState calls it, gives
// each write its index and rolls back a failed transaction. Values are kept as base64, the form in which they are
// sent and stored.

import { Refusal } from './go-compat.ts';
import { KeyTable } from './key-table.ts';

/** An entry. Field names are those of the API. */
export interface KvEntry {
  readonly LockIndex: number;
  readonly Key: string;
  readonly Flags: number;
  /** Base64; null if empty. */
  readonly Value: string | null;
  /** Id of the session that holds the lock. */
  readonly Session?: string;
  readonly CreateIndex: number;
  readonly ModifyIndex: number;
}

export type KvVerb =
  | 'set'
  | 'cas'
  | 'lock'
  | 'unlock'
  | 'delete'
  | 'delete-cas'
  | 'delete-tree'
  | 'get'
  | 'get-tree'
  | 'check-session'
  | 'check-index'
  | 'check-not-exists';

/** One operation, from a single request or a transaction. */
export interface KvOperation {
  readonly verb: KvVerb;
  readonly key: string;
  readonly value: string | null;
  readonly flags: number;
  readonly session: string;
  readonly index: number;
}

/** Limit of tombstones. For older deletes, only the highest index is kept, which applies to every prefix. */
const TOMBSTONES_MAX = 4096;

/** Reverts one change. */
export type Undo = () => void;

export class KvTable {
  readonly #entries = new KeyTable<KvEntry>();
  /** Index of the delete, by key or by deleted prefix; oldest first. */
  readonly #tombstones = new Map<string, number>();
  /** Highest index of the tombstones that were dropped. */
  #forgottenIndex = 0;
  #tableIndex = 0;
  #bytes = 0;

  /** Total length of keys and values. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Returns the entry and its index, or the index of the table if there is no entry, as in Consul. */
  get(key: string): { index: number; entry: KvEntry | undefined } {
    const entry = this.#entries.get(key);
    return { index: entry?.ModifyIndex ?? this.#tableIndex, entry };
  }

  /** Returns the entries below a prefix and the highest index of any change there, including deletes. */
  list(prefix: string): { index: number; entries: KvEntry[] } {
    const entries = this.#entries.under(prefix);
    if (prefix === '') return { index: this.#tableIndex, entries };
    let index = this.#forgottenIndex;
    for (const entry of entries) if (entry.ModifyIndex > index) index = entry.ModifyIndex;
    for (const [key, deleted] of this.#tombstones) if (deleted > index && key.startsWith(prefix)) index = deleted;
    return { index: index === 0 ? this.#tableIndex : index, entries };
  }

  /** Sets a key. `session` undefined keeps the lock holder, null removes it. Returns false if nothing changes. */
  set(
    next: Omit<KvEntry, 'CreateIndex' | 'ModifyIndex' | 'Session'>,
    session: string | null | undefined,
    index: number,
    undo: Undo[],
  ): boolean {
    const before = this.#entries.get(next.Key);
    const holder = session === undefined ? before?.Session : (session ?? undefined);
    if (
      before !== undefined &&
      before.LockIndex === next.LockIndex &&
      before.Flags === next.Flags &&
      before.Value === next.Value &&
      before.Session === holder
    ) {
      return false;
    }
    this.#put(
      {
        LockIndex: next.LockIndex,
        Key: next.Key,
        Flags: next.Flags,
        Value: next.Value,
        ...(holder === undefined ? {} : { Session: holder }),
        CreateIndex: before?.CreateIndex ?? index,
        ModifyIndex: index,
      },
      undo,
    );
    this.#advance(index, undo);
    return true;
  }

  /** Deletes a key and adds a tombstone. Returns false if there is no such key. */
  delete(key: string, index: number, undo: Undo[]): boolean {
    if (this.#entries.get(key) === undefined) return false;
    this.#remove(key, undo);
    this.#bury(key, index, undo);
    this.#advance(index, undo);
    return true;
  }

  /** Deletes all keys below a prefix and adds one tombstone. Returns the deleted keys. */
  deleteTree(prefix: string, index: number, undo: Undo[]): string[] {
    const keys = this.#entries.under(prefix).map((entry) => entry.Key);
    if (keys.length === 0) return keys;
    for (const key of keys) this.#remove(key, undo);
    this.#bury(prefix, index, undo);
    this.#advance(index, undo);
    return keys;
  }

  /** Returns the entries that a session holds. */
  heldBy(session: string): KvEntry[] {
    return this.#entries.under('').filter((entry) => entry.Session === session);
  }

  *records(): Iterable<unknown> {
    yield { table: 'kv', index: this.#tableIndex, forgotten: this.#forgottenIndex };
    for (const entry of this.#entries.under('')) yield { table: 'kv', entry };
    for (const [key, deleted] of this.#tombstones) yield { table: 'kv', tombstone: key, deleted };
  }

  restore(record: { index?: number; forgotten?: number; entry?: KvEntry; tombstone?: string; deleted?: number }): void {
    if (record.entry !== undefined) this.#put(record.entry, []);
    else if (record.tombstone !== undefined) this.#tombstones.set(record.tombstone, record.deleted ?? 0);
    else {
      this.#tableIndex = record.index ?? 0;
      this.#forgottenIndex = record.forgotten ?? 0;
    }
  }

  #put(entry: KvEntry, undo: Undo[]): void {
    const before = this.#entries.get(entry.Key);
    this.#entries.set(entry.Key, entry);
    this.#bytes += weight(entry) - weight(before);
    undo.push(() => {
      if (before === undefined) this.#entries.delete(entry.Key);
      else this.#entries.set(entry.Key, before);
      this.#bytes -= weight(entry) - weight(before);
    });
  }

  #remove(key: string, undo: Undo[]): void {
    const before = this.#entries.get(key)!;
    this.#entries.delete(key);
    this.#bytes -= weight(before);
    undo.push(() => {
      this.#entries.set(key, before);
      this.#bytes += weight(before);
    });
  }

  #bury(key: string, index: number, undo: Undo[]): void {
    const before = this.#tombstones.get(key);
    this.#tombstones.delete(key);
    this.#tombstones.set(key, index);
    undo.push(() => {
      if (before === undefined) this.#tombstones.delete(key);
      else this.#tombstones.set(key, before);
    });
    while (this.#tombstones.size > TOMBSTONES_MAX) {
      const [oldest, deleted] = this.#tombstones.entries().next().value as [string, number];
      this.#tombstones.delete(oldest);
      // Do not roll this back. An extra wake-up of a watch is harmless; a missing one is not.
      if (deleted > this.#forgottenIndex) this.#forgottenIndex = deleted;
    }
  }

  #advance(index: number, undo: Undo[]): void {
    const before = this.#tableIndex;
    this.#tableIndex = index;
    undo.push(() => {
      this.#tableIndex = before;
    });
  }
}

function weight(entry: KvEntry | undefined): number {
  return entry === undefined ? 0 : entry.Key.length + (entry.Value?.length ?? 0);
}

/**
 * Result of one operation: its entries and the changed keys, or why it was not done. `done: false` is a lost race
 * (failed check-and-set or lock) or a failed condition, not an exception.
 */
export type KvOutcome =
  | { readonly done: true; readonly entries: readonly KvEntry[]; readonly changed: readonly string[] }
  | { readonly done: false; readonly why: string };

/**
 * Runs one operation. `hasSession` returns whether a session exists. Appends the steps that revert it to `undo`.
 *
 * @throws Refusal for an invalid session
 */
export function runKv(
  table: KvTable,
  operation: KvOperation,
  index: number,
  hasSession: (id: string) => boolean,
  undo: Undo[],
): KvOutcome {
  const { verb, key, flags, value, session } = operation;
  const before = table.get(key).entry;
  const quoted = JSON.stringify(key);
  switch (verb) {
    case 'set': {
      // A plain write keeps the lock holder and resets the lock index to zero, as in Consul.
      const changed = table.set({ LockIndex: 0, Key: key, Flags: flags, Value: value }, undefined, index, undo);
      return written(table, key, changed);
    }
    case 'cas': {
      if (operation.index === 0 ? before !== undefined : before?.ModifyIndex !== operation.index) {
        return { done: false, why: `failed to set key ${quoted}, index is stale` };
      }
      const changed = table.set({ LockIndex: 0, Key: key, Flags: flags, Value: value }, undefined, index, undo);
      return written(table, key, changed);
    }
    case 'lock': {
      if (session === '') throw new Refusal(500, 'missing session');
      if (!hasSession(checkSessionId(session))) throw new Refusal(500, `invalid session ${JSON.stringify(session)}`);
      if (before?.Session !== undefined && before.Session !== session) {
        return { done: false, why: `failed to lock key ${quoted}, lock is already held` };
      }
      const lockIndex = before === undefined ? 1 : before.Session === session ? before.LockIndex : before.LockIndex + 1;
      const changed = table.set({ LockIndex: lockIndex, Key: key, Flags: flags, Value: value }, session, index, undo);
      return written(table, key, changed);
    }
    case 'unlock': {
      if (session === '') throw new Refusal(500, 'missing session');
      if (before === undefined || before.Session !== session) {
        return { done: false, why: `failed to unlock key ${quoted}, lock isn't held, or is held by another session` };
      }
      table.set({ LockIndex: before.LockIndex, Key: key, Flags: flags, Value: value }, null, index, undo);
      return written(table, key, true);
    }
    case 'delete':
      return { done: true, entries: [], changed: table.delete(key, index, undo) ? [key] : [] };
    case 'delete-cas':
      // As in Consul, deleting a missing key succeeds with any index.
      if (before !== undefined && before.ModifyIndex !== operation.index) {
        return { done: false, why: `failed to delete key ${quoted}, index is stale` };
      }
      return { done: true, entries: [], changed: table.delete(key, index, undo) ? [key] : [] };
    case 'delete-tree':
      return { done: true, entries: [], changed: table.deleteTree(key, index, undo) };
    case 'get':
      if (before === undefined) return { done: false, why: `key ${quoted} doesn't exist` };
      return { done: true, entries: [before], changed: [] };
    case 'get-tree':
      return { done: true, entries: table.list(key).entries, changed: [] };
    case 'check-session':
      if (before === undefined) return { done: false, why: `failed to check session, key ${quoted} doesn't exist` };
      if ((before.Session ?? '') !== session) {
        const why = `failed session check for key ${quoted}, current session ${JSON.stringify(before.Session ?? '')} != ${JSON.stringify(session)}`;
        return { done: false, why };
      }
      return { done: true, entries: [{ ...before, Value: null }], changed: [] };
    case 'check-index':
      if (before === undefined) return { done: false, why: `failed to check index, key ${quoted} doesn't exist` };
      if (before.ModifyIndex !== operation.index) {
        const why = `failed index check for key ${quoted}, current modify index ${before.ModifyIndex} != ${operation.index}`;
        return { done: false, why };
      }
      return { done: true, entries: [{ ...before, Value: null }], changed: [] };
    case 'check-not-exists':
      if (before !== undefined) return { done: false, why: `key ${quoted} exists` };
      return { done: true, entries: [], changed: [] };
  }
}

/** Returns a session id if it is a UUID. @throws Refusal with the text of Consul otherwise */
export function checkSessionId(id: string): string {
  if (id.length !== 36) throw new Refusal(500, 'failed session lookup: index error: UUID must be 36 characters');
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    throw new Refusal(500, 'failed session lookup: index error: Invalid UUID');
  }
  return id;
}

function written(table: KvTable, key: string, changed: boolean): KvOutcome {
  const entry = table.get(key).entry!;
  return { done: true, entries: [{ ...entry, Value: null }], changed: changed ? [key] : [] };
}
