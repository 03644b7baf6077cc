// The folder of a fetched shard: its names and modes.

/** A folder with the files of the shard, or the one file that it is. */
export const CONTENT: string = 'content';
/** The record of the files. */
export const RECORD: string = 'shard.json';
/** Modes of what is in the root folder of all shards, whose own mode decides who can enter. */
export const FOLDER_MODE = 0o755;
export const FILE_MODE = 0o644;
