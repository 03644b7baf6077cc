// Searches a shard in memory before the first call comes. A process loads SQLite and compiles code when it is first
// used, which takes some 200 ms. Callers of a server that has just started would wait for that.

import { openShardOf } from './open-shard.ts';
import { parseQuery } from './query.ts';
import { plansOf, searchShards, sumStatistics } from './search.ts';
import { SHARD_FORMAT, SHARD_VERSION } from './shard-file.ts';
import { DOCUMENT_ID } from './shard-schema.ts';
import type { ShardPool } from './shard.ts';
import { SoftEnd } from './soft-end.ts';
import { openSqlMemory } from './sqlite.ts';

/** Makes some searches of each kind, for half a second at most. */
export async function warmUp(pool: ShardPool): Promise<void> {
  const database = openSqlMemory();
  database.exec(TABLES);
  const shard = await openShardOf(database, pool);
  const shards = new Map([['warm-up', shard]]);
  const end = new SoftEnd(LONGEST_MS);
  for (let round = 1; round <= ROUNDS && !end.isReached(); round++) {
    // Other words each time, since the values of known ones are kept.
    const query = parseQuery(`w${round} OR ("w${round} w${round + 1}" AND even) OR w${round % 10}*`);
    const statistics = sumStatistics(shards, plansOf(shards, { query }), end);
    const request = { query, count: COUNT, after: undefined, fields: ['*'], statistics };
    searchShards(shards, { ...request, sort: [] }, end);
    searchShards(shards, { ...request, sort: [{ field: 'number', descending: true }] }, end);
    await new Promise((resolve) => setImmediate(resolve));
  }
  shard.close();
}

const LONGEST_MS = 500;
const ROUNDS = 10;
const COUNT = 10;
const DOCUMENTS = 200;

const TABLES = `
  CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
  INSERT INTO meta VALUES('format', '${SHARD_FORMAT}'), ('version', '${SHARD_VERSION}');
  CREATE TABLE documents(${DOCUMENT_ID} INTEGER PRIMARY KEY, text, number);
  WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ${DOCUMENTS})
    INSERT INTO documents SELECT n, 'w' || n || ' w' || (n + 1) || iif(n % 2, ' odd', ' even'), n FROM n;
  CREATE VIRTUAL TABLE t
    USING fts5(text, content = 'documents', content_rowid = '${DOCUMENT_ID}', tokenize = 'unicode61');
  INSERT INTO t(t) VALUES('rebuild')`;
