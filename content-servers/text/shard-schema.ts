// The tables of a shard, as they are read when it is opened: `meta`, `documents` with one column a stored field, and
// the FTS5 table `t`. A file with other tables is refused with what it has and what is expected.

import { TEXT_LIMITS } from './limits.ts';
import { SHARD_FORMAT, SHARD_VERSION } from './shard-file.ts';
import type { SqlDatabase, SqlRow } from './sqlite.ts';

/** The key of the table `documents`. Its value is the document id of the interface. */
export const DOCUMENT_ID = '_id';

export interface ShardSchema {
  /** The `tokenize` option of `t`. */
  readonly tokenizer: string;
  /** Columns of `t`: the fields that queries can name. */
  readonly indexed: readonly string[];
  /** Columns of `documents` without `_id`: the fields for sorting and for answers. */
  readonly stored: readonly string[];
  /** Other rows of `meta`, for people. */
  readonly notes: Readonly<Record<string, string>>;
}

/** @throws Error that says what was found and what was expected */
export function readShardSchema(database: SqlDatabase): ShardSchema {
  const all = database.prepare("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'view')").all();
  const tables = new Map(all.map((row) => [String(row['name']), row]));
  for (const name of ['meta', 'documents', 't', 't_docsize']) {
    const type = tables.get(name)?.['type'] ?? 'missing';
    if (type === 'table') continue;
    const found = [...tables.keys()].filter((one) => !one.startsWith('sqlite_')).slice(0, TABLES_SHOWN_MAX);
    throw new Error(
      `its table "${name}" is ${type === 'missing' ? type : `a ${String(type)}`}; it has ${found.join(', ') || 'no table'}, ` +
        'expected meta, documents and the FTS5 table t with columnsize, as docs/text-search.md says',
    );
  }
  const { format, version, ...notes } = readMeta(database);
  if (format !== SHARD_FORMAT || version !== SHARD_VERSION)
    throw new Error(
      `its table meta says format ${quoted(format)}, version ${quoted(version)}; ` +
        `this server reads format "${SHARD_FORMAT}", version "${SHARD_VERSION}"`,
    );
  const columns = (table: string): SqlRow[] => [...database.prepare(`PRAGMA table_info(${table})`).all()];
  const stored = columns('documents');
  const isKey = (row: SqlRow): boolean =>
    row['name'] === DOCUMENT_ID && row['pk'] === 1 && String(row['type']).toUpperCase() === 'INTEGER';
  if (!stored.some(isKey)) throw new Error(`its table documents has no column "${DOCUMENT_ID} INTEGER PRIMARY KEY"`);
  const names = stored.map((row) => String(row['name'])).filter((name) => name !== DOCUMENT_ID);
  if (names.length > TEXT_LIMITS.fieldsMax)
    throw new Error(`its table documents has ${names.length} fields, the limit is ${TEXT_LIMITS.fieldsMax}`);
  return {
    tokenizer: tokenizerOf(String(tables.get('t')?.['sql'])),
    indexed: columns('t').map((row) => String(row['name'])),
    stored: names,
    notes,
  };
}

function readMeta(database: SqlDatabase): Readonly<Record<string, string>> {
  try {
    const rows = database.prepare(`SELECT key, value FROM meta ORDER BY key LIMIT ${META_ROWS_MAX}`).all();
    return Object.fromEntries(rows.map(({ key, value }) => [String(key), String(value)]));
  } catch (error) {
    throw new Error(`its table meta has no columns key and value: ${(error as Error).message}`, { cause: error });
  }
}

/** Reads the options of `CREATE VIRTUAL TABLE t USING fts5(...)`. */
function tokenizerOf(sql: string): string {
  const options = /\busing\s+["'`[]?fts5["'`\]]?\s*\(([\s\S]*)\)/i.exec(sql)?.[1];
  if (options === undefined) throw new Error(`its table t is not of FTS5: ${sql.slice(0, SQL_SHOWN_MAX)}`);
  const detail = optionOf(options, 'detail') ?? 'full';
  if (detail !== 'full') throw new Error(`its table t has detail = ${detail}, expected full: phrases need it`);
  return optionOf(options, 'tokenize') ?? 'unicode61';
}

/** The value of an option: a bare word, or text in quotes of either kind. */
function optionOf(options: string, name: string): string | undefined {
  const found = new RegExp(`(?:^|,)\\s*${name}\\s*=\\s*(?:'((?:[^']|'')*)'|"((?:[^"]|"")*)"|([\\w ]+))`, 'i').exec(
    options,
  );
  return found?.[1]?.replaceAll("''", "'") ?? found?.[2]?.replaceAll('""', '"') ?? found?.[3]?.trim();
}

function quoted(text: string | undefined): string {
  return text === undefined ? 'nothing' : JSON.stringify(text);
}

const TABLES_SHOWN_MAX = 8;
const SQL_SHOWN_MAX = 80;
const META_ROWS_MAX = 100;
