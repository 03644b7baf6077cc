// TextSearch: full-text search on SQLite FTS5, one file a shard. docs/text-search.md describes its queries and shards.

import { LRUCache } from 'lru-cache';
import { chassis, Content } from '../../chassis-sdk/typescript/mod.ts';
import { Analyzers } from './analyzer.ts';
import { textHandlers } from './handlers.ts';
import { TEXT_LIMITS } from './limits.ts';
import { openTextShard } from './open-shard.ts';
import type { TextShard } from './shard.ts';
import { SHARD_FORMAT, SHARD_VERSION } from './shard-file.ts';
import { warmUp } from './warm-up.ts';

const pool = {
  analyzers: new Analyzers(),
  cache: new LRUCache<string, object>({ maxSize: TEXT_LIMITS.cacheBytesMax }),
};

await warmUp(pool);

const content = new Content<TextShard>({
  open: async (path) => {
    const shard = await openTextShard(path, pool);
    const { tokenizer, indexed, stored, notes } = shard.schema;
    const more = {
      ...notes,
      format: `${SHARD_FORMAT} ${SHARD_VERSION}`,
      analyzer: tokenizer,
      indexed: indexed.join(', '),
      stored: stored.join(', '),
      words: String(shard.tokens),
    };
    return { shard, entries: shard.documents, more };
  },
  close: (shard) => shard.close(),
});

await chassis({
  idl: new URL('./text_search.thrift', import.meta.url),
  service: 'TextSearch',
  version: '1.0.0',
  // SQLite blocks the thread: more calls at once would only wait for each other.
  concurrency: 1,
  content,
  handlers: textHandlers(content),
});
