// Opens a shard: checks the file and its tables, and reads the length of every document. What is wrong is said in a
// sentence that begins with the file: damaged files are fetched again, others must be built again.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { TEXT_LIMITS } from './limits.ts';
import { checkSqliteHeader, isDamage, shardFileAt } from './shard-file.ts';
import { DOCUMENT_ID, readShardSchema } from './shard-schema.ts';
import { type DocumentSizes, type ShardPool, TextShard } from './shard.ts';
import { openSqlFile, plainValue, type SqlDatabase, type SqlRow } from './sqlite.ts';

/**
 * Opens the shard at a path.
 * @throws DamagedShard for a file that is not whole; Error for one with other tables
 */
export async function openTextShard(at: string, pool: ShardPool): Promise<TextShard> {
  const file = shardFileAt(at);
  checkSqliteHeader(file);
  let database: SqlDatabase | undefined;
  try {
    database = openSqlFile(file);
    return await openShardOf(database, pool);
  } catch (error) {
    database?.close();
    if (isDamage(error)) throw new DamagedShard(`SQLite says: ${(error as Error).message}`);
    throw error;
  }
}

/** The shard with the tables of a database. */
export async function openShardOf(database: SqlDatabase, pool: ShardPool): Promise<TextShard> {
  database.exec('PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON');
  const schema = readShardSchema(database);
  pool.analyzers.of(schema.tokenizer);
  for (const [table, type] of Object.entries({ terms: 'row', columnterms: 'col', instances: 'instance' }))
    database.exec(`CREATE VIRTUAL TABLE temp.${table} USING fts5vocab(main, t, ${type})`);
  return new TextShard(database, schema, await readSizes(database), pool);
}

/** Reads the number of terms of every document. Other calls run in between. */
async function readSizes(database: SqlDatabase): Promise<DocumentSizes> {
  const indexed = database.prepare(edgesOf('t_docsize', 'id'), true).get() as SqlRow;
  const stored = database.prepare(edgesOf('documents', DOCUMENT_ID), true).get() as SqlRow;
  const [first, last] = [indexed['first'], indexed['last']].map((id) => plainValue(id ?? null));
  if (first !== plainValue(stored['first'] ?? null) || last !== plainValue(stored['last'] ?? null))
    throw new Error(
      `its index has documents ${String(first)} to ${String(last)}, its table documents ${String(stored['first'])} to ` +
        `${String(stored['last'])}; fill the index with INSERT INTO t(t) VALUES('rebuild')`,
    );
  if (typeof first === 'bigint' || typeof last === 'bigint')
    throw new Error(`it has documents ${String(first)} to ${String(last)}, expected ids from -(2^53 - 1) to 2^53 - 1`);
  const documents = Number(database.prepare('SELECT count(*) AS documents FROM t_docsize').get()?.['documents']);
  if (documents > TEXT_LIMITS.shardDocumentsMax)
    throw new Error(`it has ${documents} documents, the limit is ${TEXT_LIMITS.shardDocumentsMax}; make more shards`);
  const ids = new Float64Array(documents);
  const lengths = new Uint32Array(documents);
  const slice = database.prepare(
    'SELECT json_group_array(id) AS ids, group_concat(hex(sz)) AS sizes FROM ' +
      `(SELECT id, sz FROM t_docsize WHERE id >= ? ORDER BY id LIMIT ${TEXT_LIMITS.sliceDocuments})`,
  );
  let read = 0;
  while (read < documents) {
    const row = slice.get(read === 0 ? (first as number) : (ids[read - 1] as number) + 1) as SqlRow;
    const some = JSON.parse(row['ids'] as string) as number[];
    if (some.length === 0) throw new DamagedShard(`its table t_docsize ends after ${read} of ${documents} documents`);
    const sizes = (row['sizes'] as string).split(',');
    for (const [i, id] of some.entries()) {
      ids[read] = id;
      lengths[read++] = sumOfVarints(sizes[i] ?? '');
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { ids, lengths };
}

/** SQLite finds one edge at the end of a table, but for both in one question it reads the whole table. */
function edgesOf(table: string, id: string): string {
  return `SELECT (SELECT min(${id}) FROM ${table}) AS first, (SELECT max(${id}) FROM ${table}) AS last`;
}

/** Adds up the numbers of a docsize record, one a column: 7 bits a byte, the high bit set on all bytes but the last. */
function sumOfVarints(hex: string): number {
  let sum = 0;
  let value = 0;
  for (let i = 0; i < hex.length; i += 2) {
    const byte = hexDigit(hex.charCodeAt(i)) * 16 + hexDigit(hex.charCodeAt(i + 1));
    value = value * 128 + (byte & 0x7f);
    if (byte < 0x80) {
      sum += value;
      value = 0;
    }
  }
  return sum;
}

/** The value of a digit that SQLite wrote: 0 to 9, A to F. */
function hexDigit(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x37;
}
