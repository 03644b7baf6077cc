// Limits of sharded content. Times in ms.

/** Files of one shard. */
export const SHARD_FILES_MAX = 10_000;
/** Depth of nested folders in one shard. */
export const SHARD_DEPTH_MAX = 16;
/** Unpacked bytes of one zip archive, and the largest ratio of unpacked to packed bytes. */
export const UNZIPPED_BYTES_MAX: number = 64 * 1024 * 1024 * 1024;
export const UNZIPPED_RATIO_MAX = 100;
/** Characters of the name of a shard. */
export const SHARD_NAME_MAX = 128;
/** Shards that one manager fetches at the same time. */
export const FETCHES_MAX = 2;
/** Shards that one copy of a content server opens, and closes, at the same time. */
export const OPENS_MAX = 4;
export const CLOSES_MAX = 16;
/** Entries that a content server may count in one shard, and characters of its reason not to open one. */
export const ENTRIES_MAX: number = 2 ** 40;
export const WHY_CHARS_MAX = 1_000;
/** Time limit of a close, which waits for the calls that use the shard. */
export const CLOSE_TIMEOUT_MS = 120_000;
/** Pause after a failure of a replica: RETRY_FIRST_MS, doubled up to RETRY_MAX_MS. */
export const RETRY_FIRST_MS = 1_000;
export const RETRY_MAX_MS = 300_000;
/** Files of a removed shard stay on disk for this time, so that it can be served again at once. */
export const OLD_KEPT_MS = 3_600_000;
/** Copies of a content server that fail one after another while they open a shard before it is at fault itself. */
export const FATAL_OPENS_MAX = 2;
/** Free space that a fetch leaves on the disk. */
export const DISK_RESERVE_BYTES: number = 256 * 1024 * 1024;
/** Calls of a shard that fail one after another within FAULT_PERIOD_MS before its files are checked. */
export const FAULTS_MAX = 3;
export const FAULT_PERIOD_MS = 60_000;
/** Files that were found whole are not checked again for this time. */
export const SOUND_MS = 600_000;
/** Changes of holdings within this time are sent together. */
export const TELL_AFTER_MS = 20;
