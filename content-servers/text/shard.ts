// A shard: one SQLite file. It finds documents, reads the postings of a term, values to sort by, and stored fields.
// Documents are handled by their place in the shard, from 0 in order of their ids, so that facts about them fit in
// arrays. SQLite hands over lists of numbers as one JSON text: on every driver that is several times faster than rows.
//
// What was read is kept in a cache that all shards of the process share, since shards do not change.

import type { LRUCache } from 'lru-cache';
import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import type { Analyzer, Analyzers } from './analyzer.ts';
import { TEXT_LIMITS } from './limits.ts';
import { DOCUMENT_ID, type ShardSchema } from './shard-schema.ts';
import type { SoftEnd } from './soft-end.ts';
import { plainValue, type SqlDatabase, type SqlStatement, type SqlValue } from './sqlite.ts';

/** The documents with a term, by place, and how often it is in each. */
export interface Postings {
  readonly places: Uint32Array;
  readonly counts: Uint32Array;
}

/** The values of a field in all documents, by place; null for a document without it. */
export interface SortColumn {
  readonly values: readonly SqlValue[];
  /** Which values are real numbers: SQLite tells 1 from 1.0, JavaScript does not. */
  readonly isReal: Uint8Array;
}

/** Documents that match, by place, in order. */
export interface Matches {
  readonly places: Uint32Array;
  /** Documents that were looked at: all, unless the time was up. */
  readonly looked: number;
}

/** What shards keep in memory, by shard and key. */
export type ShardCache = LRUCache<string, object>;

/** What the shards of a process share. */
export interface ShardPool {
  readonly analyzers: Analyzers;
  readonly cache: ShardCache;
}

export class TextShard {
  readonly schema: ShardSchema;
  readonly analyzer: Analyzer;
  /** Ids of the documents, ascending. */
  readonly ids: Float64Array;
  /** Terms of each document in all fields. */
  readonly lengths: Uint32Array;
  /** Terms of all documents. */
  readonly tokens: number;
  /** Equal in shards for which a query means the same. */
  readonly planKey: string;
  readonly #database: SqlDatabase;
  readonly #cache: ShardCache;
  readonly #cacheKey: string;
  /** Whether the ids have no gap. */
  readonly #isDense: boolean;
  readonly #statements = new Map<string, SqlStatement>();

  constructor(database: SqlDatabase, schema: ShardSchema, sizes: DocumentSizes, pool: ShardPool) {
    this.#database = database;
    this.schema = schema;
    this.analyzer = pool.analyzers.of(schema.tokenizer);
    this.planKey = JSON.stringify([schema.tokenizer, schema.indexed]);
    this.ids = sizes.ids;
    this.lengths = sizes.lengths;
    this.tokens = sizes.lengths.reduce((sum, length) => sum + length, 0);
    this.#isDense = this.ids.length === 0 || this.#lastId - this.#firstId === this.ids.length - 1;
    this.#cache = pool.cache;
    this.#cacheKey = `${++shardsOpened} `;
  }

  get documents(): number {
    return this.ids.length;
  }

  get #firstId(): number {
    return this.ids[0] as number;
  }

  get #lastId(): number {
    return this.ids[this.ids.length - 1] as number;
  }

  /** The place of a document; -1 if there is none with this id. */
  placeOf(id: number): number {
    if (this.#isDense) return id >= this.#firstId && id <= this.#lastId ? id - this.#firstId : -1;
    let from = 0;
    let to = this.ids.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((this.ids[middle] as number) < id) from = middle + 1;
      else to = middle;
    }
    return this.ids[from] === id ? from : -1;
  }

  /** @param field undefined for all fields */
  postings(term: string, field: string | undefined): Postings {
    return this.#cached(
      `p ${field ?? ''} ${term}`,
      ({ places }) => places.length * 8,
      () => {
        const where = field === undefined ? '' : ' AND col = ?';
        const sql = `SELECT json_group_array(doc) AS ids FROM temp.instances WHERE term = ?${where}`;
        const row = this.#prepare(sql).get(...(field === undefined ? [term] : [term, field]));
        return this.#postingsOf(JSON.parse(row?.['ids'] as string) as number[]);
      },
    );
  }

  /**
   * The terms that begin with `prefix`, in the order of their bytes.
   * @returns at most one more than a query may have
   */
  expansions(prefix: string, field: string | undefined): readonly string[] {
    const sizeOf = (terms: readonly string[]): number => terms.reduce((sum, term) => sum + 2 * term.length + 32, 0);
    return this.#cached(`x ${field ?? ''} ${prefix}`, sizeOf, () => {
      const [table, where] = field === undefined ? ['terms', ''] : ['columnterms', ' AND col = ?'];
      const limit = TEXT_LIMITS.scoringTermsMax + 1;
      const sql =
        `SELECT json_group_array(term) AS terms FROM ` +
        `(SELECT term FROM temp.${table} WHERE term >= ? AND term < ?${where} ORDER BY term LIMIT ${limit})`;
      const range = [prefix, `${prefix}\u{10ffff}`];
      const row = this.#prepare(sql).get(...(field === undefined ? range : [...range, field]));
      return JSON.parse(row?.['terms'] as string) as string[];
    });
  }

  /** Documents that match an expression of FTS5, as many as can be found in the time. */
  matches(expression: string, end: SoftEnd): Matches {
    const known = this.#cache.get(this.#keyOf(`m ${expression}`)) as Matches | undefined;
    if (known !== undefined) return known;
    // FTS5 takes only integers as edges. Some drivers pass every number as REAL, and it would read all documents.
    const sql =
      'SELECT json_group_array(rowid) AS ids FROM (SELECT rowid FROM t WHERE t MATCH ? ' +
      'AND rowid BETWEEN CAST(? AS INTEGER) AND CAST(? AS INTEGER) ORDER BY rowid)';
    const statement = this.#prepare(sql);
    const places: number[] = [];
    let looked = 0;
    while (looked < this.documents && !end.isReached()) {
      const next = Math.min(this.documents, looked + TEXT_LIMITS.sliceDocuments);
      const row = statement.get(expression, this.ids[looked] as number, this.ids[next - 1] as number);
      for (const id of JSON.parse(row?.['ids'] as string) as number[]) places.push(this.#knownPlaceOf(id));
      looked = next;
    }
    const found: Matches = { places: Uint32Array.from(places), looked };
    if (looked === this.documents) this.#keep(`m ${expression}`, found, places.length * 4);
    return found;
  }

  /** The values of a stored field. undefined when the time is up; the next call goes on where this one stopped. */
  column(field: string, end: SoftEnd): SortColumn | undefined {
    const key = `c ${field}`;
    const known = this.#cache.get(this.#keyOf(key)) as LoadingColumn | undefined;
    const column: LoadingColumn = known ?? { values: [], isReal: new Uint8Array(this.documents), bytes: 0 };
    if (column.values.length === this.documents) return column;
    const name = quotedName(field);
    const sql =
      `SELECT ${DOCUMENT_ID} AS id, ${name} AS value, typeof(${name}) = 'real' AS real ` +
      `FROM documents WHERE ${DOCUMENT_ID} BETWEEN ? AND ?`;
    const statement = this.#prepare(sql, true);
    const { values } = column;
    while (values.length < this.documents) {
      if (end.isReached()) break;
      const from = values.length;
      const next = Math.min(this.documents, from + TEXT_LIMITS.sliceDocuments);
      for (let i = from; i < next; i++) values.push(null);
      for (const { id, value, real } of statement.all(this.ids[from] as number, this.ids[next - 1] as number)) {
        const place = this.placeOf(Number(id));
        if (place < 0) continue;
        values[place] = plainValue(value as SqlValue);
        column.isReal[place] = Number(real);
        column.bytes += typeof value === 'string' ? value.length * 2 : value instanceof Uint8Array ? value.length : 0;
      }
    }
    this.#keep(key, column, column.bytes + values.length * 17);
    return values.length === this.documents ? column : undefined;
  }

  /** Stored fields of a document: value and type, without those that it does not have. undefined for no document. */
  stored(id: number, fields: readonly string[]): ReadonlyMap<string, StoredValue> | undefined {
    if (this.placeOf(id) < 0) return undefined;
    const found = new Map<string, StoredValue>();
    for (const field of fields) {
      const name = quotedName(field);
      // One statement a field, so that the fields that callers ask for do not multiply statements.
      const sql = `SELECT ${name} AS value, typeof(${name}) = 'real' AS real FROM documents WHERE ${DOCUMENT_ID} = ?`;
      const row = this.#prepare(sql, true).get(id);
      const value = row?.['value'] ?? null;
      if (value !== null) found.set(field, { value: plainValue(value), isReal: Number(row?.['real']) === 1 });
    }
    return found;
  }

  /** Closes the file and forgets what was read from it. */
  close(): void {
    for (const key of this.#cache.keys()) if (key.startsWith(this.#cacheKey)) this.#cache.delete(key);
    this.#database.close();
  }

  #postingsOf(ids: readonly number[]): Postings {
    const places = new Uint32Array(ids.length);
    const counts = new Uint32Array(ids.length);
    let used = 0;
    let last = -1;
    for (const id of ids) {
      if (id !== last) {
        places[used++] = this.#knownPlaceOf(id);
        last = id;
      }
      (counts[used - 1] as number)++;
    }
    return { places: places.slice(0, used), counts: counts.slice(0, used) };
  }

  #knownPlaceOf(id: number): number {
    const place = this.placeOf(id);
    if (place < 0) throw new DamagedShard(`its index has document ${id}, its table t_docsize has not`);
    return place;
  }

  #keyOf(key: string): string {
    return this.#cacheKey + key;
  }

  #cached<T extends object>(key: string, sizeOf: (value: T) => number, load: () => T): T {
    const known = this.#cache.get(this.#keyOf(key)) as T | undefined;
    if (known !== undefined) return known;
    const value = load();
    this.#keep(key, value, sizeOf(value));
    return value;
  }

  #keep(key: string, value: object, bytes: number): void {
    this.#cache.set(this.#keyOf(key), value, { size: bytes + key.length * 2 + ENTRY_BYTES });
  }

  #prepare(sql: string, hasBigInts = false): SqlStatement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql, hasBigInts);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** A value of a field. */
export interface StoredValue {
  readonly value: NonNullable<SqlValue>;
  readonly isReal: boolean;
}

interface LoadingColumn extends SortColumn {
  readonly values: SqlValue[];
  bytes: number;
}

export interface DocumentSizes {
  readonly ids: Float64Array;
  readonly lengths: Uint32Array;
}

/** Distinguishes shards in the cache, also one that is opened again. */
let shardsOpened = 0;

function quotedName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** What an entry of the cache takes besides its content, about. */
const ENTRY_BYTES = 200;
