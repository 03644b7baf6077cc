/** Content servers on Apache Lucene, a folder with an index a shard. docs/lucene.md describes them. */
include "../../idl/search.thrift"

namespace * katamari_lucene

/** Reads what Lucene 7 and 8 have written. */
service Lucene extends search.TextContent {}

/** Reads what Lucene 3 and older have written. */
service Lucene3 extends search.TextContent {}
