// Writes one shard: rows of documents first, since each may bring a new field, then the index over its text fields.

import { closeSync, fsyncSync, openSync, statSync, writeFileSync } from 'node:fs';
import { SHARD_FORMAT, SHARD_VERSION } from './shard-file.ts';
import { DOCUMENT_ID } from './shard-schema.ts';
import { createSqlFile, type SqlDatabase, type SqlStatement, type SqlValue } from './sqlite.ts';

export class ShardWriter {
  readonly #file: string;
  readonly #database: SqlDatabase;
  #fields: readonly string[] = [];
  #insert: SqlStatement | undefined;
  #documents = 0;

  /** @param cacheBytes memory for pages; what does not fit is written early */
  constructor(file: string, cacheBytes: number) {
    this.#file = file;
    // SQLite's WebAssembly makes a file that only its owner can read. It keeps the rights of one that exists.
    writeFileSync(file, '');
    this.#database = createSqlFile(file);
    this.#database.exec(`PRAGMA cache_size = -${Math.max(64, Math.floor(cacheBytes / 1024))}`);
    this.#database.exec(
      `BEGIN; CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL); ` +
        `INSERT INTO meta VALUES('format', '${SHARD_FORMAT}'), ('version', '${SHARD_VERSION}'); ` +
        `CREATE TABLE documents(${DOCUMENT_ID} INTEGER PRIMARY KEY)`,
    );
  }

  get documents(): number {
    return this.#documents;
  }

  /** @param fields all fields so far; @param values one for each, null for none */
  add(fields: readonly string[], values: readonly SqlValue[]): void {
    if (fields !== this.#fields) this.#setFields(fields);
    const marks = `?${', ?'.repeat(fields.length)}`;
    this.#insert ??= this.#database.prepare(`INSERT INTO documents VALUES(${marks})`);
    // Drivers store a number as REAL or as INTEGER, depending on how the runtime happens to hold it.
    this.#insert.run(
      ++this.#documents,
      ...values.map((value) => (Number.isInteger(value) ? BigInt(value as number) : value)),
    );
  }

  /** Makes the index and finishes the file. Other work runs in between. @returns its bytes */
  async finish(fields: readonly string[], indexed: readonly string[], tokenizer: string): Promise<number> {
    this.#setFields(fields);
    const names = indexed.map(quotedColumn).join(', ');
    this.#database.exec(
      `CREATE VIRTUAL TABLE t USING fts5(${names}, content = 'documents', content_rowid = '${DOCUMENT_ID}', ` +
        `tokenize = '${tokenizer.replaceAll("'", "''")}')`,
    );
    const fill = this.#database.prepare(
      `INSERT INTO t(rowid, ${names}) SELECT ${DOCUMENT_ID}, ${names} FROM documents ` +
        `WHERE ${DOCUMENT_ID} BETWEEN ? AND ?`,
    );
    for (let from = 1; from <= this.#documents; from += FILL_DOCUMENTS) {
      fill.run(from, from + FILL_DOCUMENTS - 1);
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#database.exec("INSERT INTO t(t) VALUES('optimize'); COMMIT");
    this.#database.close();
    const handle = openSync(this.#file, 'r+');
    fsyncSync(handle);
    closeSync(handle);
    return statSync(this.#file).size;
  }

  /** Closes a file that is not finished. */
  close(): void {
    this.#database.close();
  }

  #setFields(fields: readonly string[]): void {
    for (const field of fields.slice(this.#fields.length))
      this.#database.exec(`ALTER TABLE documents ADD COLUMN ${quotedColumn(field)}`);
    if (fields.length > this.#fields.length) this.#insert = undefined;
    this.#fields = fields;
  }
}

function quotedColumn(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

const FILL_DOCUMENTS = 1_000;
