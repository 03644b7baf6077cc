// The limits of both Lucene servers, in one table.

package katamari.lucene;

final class SearchLimits {
  private SearchLimits() {}

  /** Characters of a query or a filter. */
  static final int QUERY_LENGTH_MAX = 8_192;
  /** Parentheses inside each other. The parser recurses. */
  static final int QUERY_DEPTH_MAX = 100;
  /** Terms of a query, prefixes expanded. */
  static final int TERMS_MAX = 1_024;
  /** Names of statistics: two a term, five a field. */
  static final int STATISTICS_MAX = 4 * TERMS_MAX;
  static final int COUNT_MAX = 10_000;
  /** Documents in one call of `documents`. */
  static final int DOCUMENTS_MAX = 10_000;
  static final int SORT_KEYS_MAX = 16;
  /** Documents between two looks at the clock. */
  static final int SLICE_DOCUMENTS = 256;
  /** Shards that `coverage.missing` names. */
  static final int MISSING_SHOWN_MAX = 100;
  /** Bytes of a document in an input file. */
  static final int LINE_BYTES_MAX = 16 * 1024 * 1024;
  static final int SHARDS_MAX = 4_000;
}
