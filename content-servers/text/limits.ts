// The limits of TextSearch, in one table.

type TextLimit =
  | 'queryLengthMax'
  | 'queryWordsMax'
  | 'queryDepthMax'
  | 'scoringTermsMax'
  | 'countMax'
  | 'documentsMax'
  | 'sortKeysMax'
  | 'fieldsMax'
  | 'shardDocumentsMax'
  | 'cacheBytesMax'
  | 'cachedWordsMax'
  | 'sliceDocuments'
  | 'missingShownMax'
  | 'shardsMax'
  | 'documentBytesMax'
  | 'fieldNameLengthMax';

export const TEXT_LIMITS: Readonly<Record<TextLimit, number>> = {
  /** Characters of a query or a filter. */
  queryLengthMax: 8_192,
  /** Words of a query and its filter. */
  queryWordsMax: 1_024,
  /** Parentheses inside each other. FTS5's parser takes some 30. */
  queryDepthMax: 20,
  /** Words whose frequencies score a document, prefixes expanded. The mesh refuses more statistics too. */
  scoringTermsMax: 1_024,
  countMax: 10_000,
  /** Documents in one call of `documents`. */
  documentsMax: 10_000,
  sortKeysMax: 16,
  /** Columns of the table `documents`. */
  fieldsMax: 500,
  /** Documents in a shard. */
  shardDocumentsMax: 5_000_000,
  /** Bytes of postings, matches and sort columns that a process keeps for all its shards. */
  cacheBytesMax: 128 * 1024 * 1024,
  /** Words whose tokens are kept for each analyzer. */
  cachedWordsMax: 10_000,
  /** Documents between two looks at the clock. */
  sliceDocuments: 16_384,
  /** Shards that `coverage.missing` names. */
  missingShownMax: 100,
  /** Shards that one build makes; the mesh takes no more of an index. */
  shardsMax: 4_000,
  /** Bytes of a document in an input file. */
  documentBytesMax: 16 * 1024 * 1024,
  fieldNameLengthMax: 100,
};
