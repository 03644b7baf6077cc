// SQLite. This file alone knows the two drivers: `node:sqlite`, and for versions of Node without it the package
// `node-sqlite3-wasm`. Both run in the thread that calls them. The first database loads the driver, so that processes
// without one pay nothing.
//
// A file that is opened for reading is never locked, and a journal or a write-ahead log beside it is ignored: shards do
// not change. `node:sqlite` has `immutable=1` for that. The WebAssembly build has no such option. It locks with a
// folder `FILE.lock`, for readers too, and a killed process leaves that folder behind for ever. So there each process
// opens the file through a link in a folder of its own, and locks nobody else out.

import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { PrivateLinks } from './private-links.ts';

/** A value in SQLite. Whole numbers that a double cannot hold are bigint. */
export type SqlValue = number | bigint | string | Uint8Array | null;
export type SqlRow = Readonly<Record<string, SqlValue>>;

export interface SqlStatement {
  get(...values: readonly SqlValue[]): SqlRow | undefined;
  all(...values: readonly SqlValue[]): readonly SqlRow[];
  run(...values: readonly SqlValue[]): void;
}

/** An open database with its statements. */
export interface SqlDatabase {
  exec(sql: string): void;
  /**
   * Prepares a statement, which lives as long as the database.
   * @param hasBigInts whether whole numbers may be beyond 2^53. The others throw for such a number.
   */
  prepare(sql: string, hasBigInts?: boolean): SqlStatement;
  /** Closes the database and all its statements. Does nothing the second time. */
  close(): void;
}

/** A value as it is: a bigint only when a double does not hold it. */
export function plainValue<Value extends SqlValue>(value: Value): Exclude<Value, bigint> | number | bigint {
  if (typeof value !== 'bigint') return value as Exclude<Value, bigint>;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Opens an existing file that nobody changes. Never writes to its folder. */
export function openSqlFile(file: string): SqlDatabase {
  return driver().openFile(realpathSync(file));
}

/** Creates a file. Writes are not synced: a file that is not finished is worth nothing. */
export function createSqlFile(file: string): SqlDatabase {
  const database = driver().create(file);
  database.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE');
  return database;
}

/** An empty database in memory. */
export function openSqlMemory(): SqlDatabase {
  return driver().create(':memory:');
}

interface SqlDriver {
  readonly openFile: (file: string) => SqlDatabase;
  readonly create: (file: string) => SqlDatabase;
}

let chosen: SqlDriver | undefined;

function driver(): SqlDriver {
  chosen ??= builtInDriver() ?? webAssemblyDriver();
  return chosen;
}

/** What this file uses of `node:sqlite`. */
interface BuiltInStatement {
  get(...values: readonly SqlValue[]): SqlRow | undefined;
  all(...values: readonly SqlValue[]): SqlRow[];
  run(...values: readonly SqlValue[]): unknown;
  setReadBigInts(isOn: boolean): void;
}
interface BuiltInDatabase {
  exec(sql: string): void;
  prepare(sql: string): BuiltInStatement;
  close(): void;
}
type BuiltInConstructor = new (file: string | URL, options?: { readonly readOnly: boolean }) => BuiltInDatabase;

/** undefined where the runtime has no `node:sqlite`, or one that cannot open a URL. */
function builtInDriver(): SqlDriver | undefined {
  let DatabaseSync: BuiltInConstructor;
  try {
    const load = createRequire(import.meta.url);
    DatabaseSync = (load('node:sqlite') as { readonly DatabaseSync: BuiltInConstructor }).DatabaseSync;
  } catch {
    return undefined;
  }
  try {
    new DatabaseSync(new URL('file:///nowhere/at/all?mode=ro'), { readOnly: true }).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_INVALID_ARG_TYPE') return undefined;
  }
  const wrap = (database: BuiltInDatabase): SqlDatabase => {
    let isOpen = true;
    return {
      exec: (sql) => database.exec(sql),
      prepare: (sql, hasBigInts = false) => {
        const statement = database.prepare(sql);
        if (hasBigInts) statement.setReadBigInts(true);
        return statement;
      },
      close: () => {
        if (isOpen) database.close();
        isOpen = false;
      },
    };
  };
  return {
    openFile: (file) => {
      const url = pathToFileURL(file);
      url.search = 'mode=ro&immutable=1';
      return wrap(new DatabaseSync(url, { readOnly: true }));
    },
    create: (file) => wrap(new DatabaseSync(file)),
  };
}

function webAssemblyDriver(): SqlDriver {
  const load = createRequire(import.meta.url);
  const { Database } = load('node-sqlite3-wasm') as typeof import('node-sqlite3-wasm');
  type Handle = InstanceType<typeof Database>;
  const links = new PrivateLinks('katamari-text-');
  const wrap = (database: Handle, afterClose: () => void): SqlDatabase => {
    const statements: ReturnType<Handle['prepare']>[] = [];
    return {
      exec: (sql) => database.exec(sql),
      prepare: (sql) => {
        const statement = database.prepare(sql);
        statements.push(statement);
        return {
          get: (...values) => (statement.get([...values]) as SqlRow | null) ?? undefined,
          all: (...values) => statement.all([...values]) as SqlRow[],
          run: (...values) => void statement.run([...values]),
        };
      },
      close: () => {
        if (!database.isOpen) return;
        // Nothing is finalized by the garbage collector or by the database.
        for (const statement of statements) statement.finalize();
        database.close();
        afterClose();
      },
    };
  };
  return {
    openFile: (file) => {
      const link = links.linkTo(file);
      const remove = (): void => links.remove(link, ['-wal', '-shm', '-journal', '.lock']);
      let handle: Handle | undefined;
      try {
        handle = new Database(link, { readOnly: true });
        // A file that was last written with a write-ahead log can be read without shared memory only so.
        handle.exec('PRAGMA locking_mode = EXCLUSIVE');
        return wrap(handle, remove);
      } catch (error) {
        handle?.close();
        remove();
        throw error;
      }
    },
    create: (file) => wrap(new Database(file), () => undefined),
  };
}
