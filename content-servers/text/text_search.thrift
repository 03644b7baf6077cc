/**
 * The embedded full-text engine: one SQLite file a shard. docs/text-search.md describes its queries and its shards.
 */
include "../../idl/search.thrift"

namespace * katamari_text

service TextSearch extends search.TextContent {}
