// The file of a shard: where it is, and whether it is a whole SQLite file. The check reads 100 bytes. It finds what
// goes wrong when files are copied: a cut file, an empty one, another format. SQLite has no checksums, so a changed
// byte inside is found by the mesh, which compares digests when it fetches a shard.

import { closeSync, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';

/** The format of a shard and its version, in the table `meta`. */
export const SHARD_FORMAT = 'katamari-text';
export const SHARD_VERSION = '1';

/**
 * The SQLite file at a path: the file itself, or the only one in a folder. Files of SQLite beside it do not count.
 * @throws Error that says what is there instead
 */
export function shardFileAt(at: string): string {
  if (!statSync(at).isDirectory()) return at;
  const files = readdirSync(at).filter((name) => !name.startsWith('.') && !/-(?:wal|shm|journal)$/.test(name));
  const [only] = files;
  if (only !== undefined && files.length === 1) return path.join(at, only);
  const found = files.length === 0 ? 'no file' : `${files.length} files: ${files.sort().slice(0, 5).join(', ')}`;
  throw new Error(`the folder has ${found}; expected one SQLite file`);
}

/** @throws DamagedShard for a file that is cut or no SQLite file */
export function checkSqliteHeader(file: string): void {
  const head = Buffer.alloc(HEADER_BYTES);
  const handle = openSync(file, 'r');
  let size: number;
  let read: number;
  try {
    size = fstatSync(handle).size;
    read = readSync(handle, head, 0, HEADER_BYTES, 0);
  } finally {
    closeSync(handle);
  }
  if (read < HEADER_BYTES) throw new DamagedShard(`the file has ${size} bytes; a SQLite file has at least 512`);
  if (head.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw new DamagedShard(
      `the file begins with ${JSON.stringify(head.toString('latin1', 0, MAGIC.length))}, not with "SQLite format 3"`,
    );
  const stored = head.readUInt16BE(16);
  const pageSize = stored === 1 ? 65_536 : stored;
  // Tools that predate SQLite 3.7 do not keep the number of pages; then both counters differ.
  const isCounted = head.readUInt32BE(24) === head.readUInt32BE(92);
  const expected = isCounted ? head.readUInt32BE(28) * pageSize : 0;
  if (size < expected || (pageSize > 0 && size % pageSize !== 0))
    throw new DamagedShard(`the file has ${size} bytes, its header says ${expected}`);
}

/** Whether an error of SQLite means that the bytes of the file are wrong. */
export function isDamage(error: unknown): boolean {
  return /malformed|not a database|disk I\/O|corrupt/i.test((error as Error).message);
}

const HEADER_BYTES = 100;
const MAGIC = 'SQLite format 3\0';
