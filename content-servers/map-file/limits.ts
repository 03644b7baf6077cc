// The limits of the MapFile reader. Lengths in a file are input: none of them makes the reader allocate or read more
// than these numbers allow.

export interface MapFileLimits {
  /** Bytes of the header of a file. */
  readonly headerBytesMax: number;
  /** Bytes of one serialized key. */
  readonly keyBytesMax: number;
  /** Bytes of one value, packed and unpacked. */
  readonly valueBytesMax: number;
  /** Bytes of one part of a block, packed and unpacked. A block has four parts. */
  readonly partBytesMax: number;
  /** Records of one block. */
  readonly blockRecordsMax: number;
  /** Bytes that are read at once from a file without blocks. */
  readonly pageBytes: number;
  /** Bytes of the keys of an index in memory. A larger index is thinned. */
  readonly indexBytesMax: number;
  /** Unpacked bytes of an index file. */
  readonly indexFileBytesMax: number;
  /** Bytes to read behind the last entry of an index, when a shard is opened. */
  readonly tailBytesMax: number;
  /** Blocks that are counted one by one when a shard is opened. */
  readonly countedBlocksMax: number;
}

export const MAP_FILE_LIMITS: MapFileLimits = {
  headerBytesMax: 256 * 1024,
  keyBytesMax: 8 * 1024 * 1024,
  valueBytesMax: 16 * 1024 * 1024,
  partBytesMax: 32 * 1024 * 1024,
  blockRecordsMax: 4 * 1024 * 1024,
  pageBytes: 128 * 1024,
  indexBytesMax: 16 * 1024 * 1024,
  indexFileBytesMax: 1024 * 1024 * 1024,
  tailBytesMax: 256 * 1024 * 1024,
  countedBlocksMax: 1_000,
};
