/**
 * Search in text. A content server whose service extends TextContent can be searched through the mesh. Scores are those
 * of one big index, however the documents are spread over shards:
 *
 * include "search.thrift"
 * service Lucene extends search.TextContent {}
 */
include "content.thrift"

namespace * katamari_search

/** A value of a field. */
union Value {
  1: string text
  2: i64 whole
  3: double real
  4: binary bytes
  /** Only in `sortValues`, and true: the document does not have the field. */
  5: bool missing
}

struct SortKey {
  /** A field of the documents, `_score`, or `_document`. */
  1: required string field
  2: bool descending = 0
}

struct Hit {
  /** `index@version/name`. With `document` it identifies a document for good: a version of an index never changes. */
  1: string shard
  2: i64 document
  /** NaN when sorted by fields alone. */
  3: double score
  /** The values that the hits are sorted by, one for each sort key; empty without sort keys. */
  4: list<Value> sortValues
  /** The stored fields that were asked for. */
  5: optional map<string, list<Value>> fields
}

struct Found {
  /** Documents that match, in all shards that answered. */
  1: i64 total
  /** The best ones: by score or sort values, then by shard, then by document. Missing sort values come last. */
  2: list<Hit> hits
  3: content.Coverage coverage
  /**
   * The `after` of the call for the next hits; '' after the last hit, and when `count` is 0. It is the last hit without
   * its fields, in strict binary and then base64url without padding, so whoever merges answers can make it.
   */
  4: string cursor
}

/** A document of an earlier answer. */
struct DocumentId {
  1: required string shard
  2: required i64 document
}

struct Document {
  1: DocumentId id
  2: map<string, list<Value>> fields
}

exception BadQuery {
  1: string why
  /** Where in the query, in characters from 0; -1 when unknown. */
  2: i32 at
}

service TextContent {
  /**
   * Returns the numbers that scores depend on, such as document frequencies. Only the engine understands their names.
   * The mesh adds them up over all shards and passes the sums to `search`. It keeps the sums, since shards do not
   * change.
   */
  map<string, i64> statistics(1: optional list<string> shards, 2: string query) throws (1: BadQuery bad)
    (katamari.readonly = "true", katamari.gather = "sum")

  /**
   * Returns the best hits.
   * @param filter a query that documents must match too; it does not count for scores
   * @param fields stored fields to return; `*` for all
   * @param after the cursor of the previous answer
   * @param statistics filled in by the mesh
   * @param minCoverage share of the shards that must be in the answer, from 0 to 1; with fewer, the call fails
   */
  Found search(
    1: optional list<string> shards
    2: string query
    3: i32 count = 10
    4: optional list<SortKey> sort
    5: string filter = ""
    6: optional list<string> fields
    7: string after = ""
    8: optional map<string, i64> statistics
    9: double minCoverage = 1.0
  ) throws (1: BadQuery bad) (katamari.readonly = "true", katamari.gather = "search")

  /** Returns the number of documents that match. It takes one round trip. */
  i64 count(1: optional list<string> shards, 2: string query, 3: string filter = "", 4: double minCoverage = 1.0)
    throws (1: BadQuery bad) (katamari.readonly = "true", katamari.gather = "sum")

  /** Returns documents by id, without those that do not exist. */
  list<Document> documents(
    1: optional list<string> shards
    2: list<DocumentId> ids
    3: optional list<string> fields
    4: double minCoverage = 1.0
  ) (katamari.readonly = "true", katamari.gather = "concat")

  /** Explains the score of a document, for people. */
  string explain(
    1: optional list<string> shards
    2: string query
    3: DocumentId id
    4: optional map<string, i64> statistics
  ) throws (1: BadQuery bad) (katamari.readonly = "true", katamari.gather = "first")
}

/**
 * Searches in several indices at once, served by every faceplate of a mesh with indices. Scores are those of one index
 * with all their documents.
 */
service KatamariSearch {
  /**
   * @param indices names of indices, with a version or a range where the one that gets the calls is not meant:
   *   `wiki`, `wiki@^3`, `news_*`
   */
  Found search(
    1: list<string> indices
    2: string query
    3: i32 count = 10
    4: optional list<SortKey> sort
    5: string filter = ""
    6: optional list<string> fields
    7: string after = ""
    9: double minCoverage = 1.0
  ) throws (1: BadQuery bad) (katamari.readonly = "true")

  /** Returns the number of documents that match in all the indices. */
  i64 count(1: list<string> indices, 2: string query, 3: string filter = "", 4: double minCoverage = 1.0)
    throws (1: BadQuery bad) (katamari.readonly = "true")
}
