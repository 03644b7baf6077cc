// The key-value table: entries, the marks that deletes leave, and every write that Consul knows. It is driven by
// State, which gives each write its index and undoes a transaction that fails half-way. Values are kept as base64,
// the form in which they travel and are stored.

import { Refusal } from './go-compat.ts';
import { KeyTable } from './key-table.ts';

/** One key. Field names are those of the API. */
export interface KvEntry {
  readonly LockIndex: number;
  readonly Key: string;
  readonly Flags: number;
  /** base64; null when empty. */
  readonly Value: string | null;
  /** The session that holds the key. */
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

/** One operation, of a single request or of a transaction. */
export interface KvOperation {
  readonly verb: KvVerb;
  readonly key: string;
  readonly value: string | null;
  readonly flags: number;
  readonly session: string;
  readonly index: number;
}

/** Deletes remembered one by one; older ones are remembered as one index for all prefixes. */
const TOMBSTONES_MAX = 4096;

/** Steps back over one change. */
export type Undo = () => void;

export class KvTable {
  readonly #entries = new KeyTable<KvEntry>();
  /** Key or deleted prefix -> index of the delete, oldest first. */
  readonly #tombstones = new Map<string, number>();
  #forgottenIndex = 0;
  #tableIndex = 0;
  #bytes = 0;

  /** Sum of the lengths of keys and values. */
  get bytes(): number {
    return this.#bytes;
  }

  /** As Consul has it: the entry's own index, or the table's when there is none. */
  get(key: string): { index: number; entry: KvEntry | undefined } {
    const entry = this.#entries.get(key);
    return { index: entry?.ModifyIndex ?? this.#tableIndex, entry };
  }

  /** Entries under a prefix and the highest index of any change under it, deletes too. */
  list(prefix: string): { index: number; entries: KvEntry[] } {
    const entries = this.#entries.under(prefix);
    if (prefix === '') return { index: this.#tableIndex, entries };
    let index = this.#forgottenIndex;
    for (const entry of entries) if (entry.ModifyIndex > index) index = entry.ModifyIndex;
    for (const [key, deleted] of this.#tombstones) if (deleted > index && key.startsWith(prefix)) index = deleted;
    return { index: index === 0 ? this.#tableIndex : index, entries };
  }

  /** Sets a key; `session` undefined keeps whoever holds it. False when nothing would change. */
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

  /** Deletes a key and leaves a mark. False when there was none. */
  delete(key: string, index: number, undo: Undo[]): boolean {
    if (this.#entries.get(key) === undefined) return false;
    this.#remove(key, undo);
    this.#bury(key, index, undo);
    this.#advance(index, undo);
    return true;
  }

  /** Deletes all keys under a prefix and leaves one mark. Gives the deleted keys. */
  deleteTree(prefix: string, index: number, undo: Undo[]): string[] {
    const keys = this.#entries.under(prefix).map((entry) => entry.Key);
    if (keys.length === 0) return keys;
    for (const key of keys) this.#remove(key, undo);
    this.#bury(prefix, index, undo);
    this.#advance(index, undo);
    return keys;
  }

  /** Keys that a session holds. */
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
      // Not undone: a watcher may be woken once more than needed, never once less.
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
 * What became of one operation: done (with the entry it left), or the text of why not. `false` is a lost race, not an
 * error.
 */
export type KvOutcome =
  | { readonly done: true; readonly entries: readonly KvEntry[]; readonly changed: readonly string[] }
  | { readonly done: false; readonly why: string };

/**
 * Runs one operation. `hasSession` tells whether a session lives; changes go to `undo` as well.
 * @throws Refusal for a session that cannot be.
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
      // A plain write leaves the holder and sets the lock index back to zero; the real agent does so too.
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
      // As in Consul: deleting what is not there succeeds at any index.
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

/** Session ids are UUIDs; anything else is refused with the text of Consul's own index. */
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
