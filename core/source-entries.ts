// What the folder of a source may hold, for managers and for the command.

/** Entries of a source that are no shards: hidden ones, the list of an HTTP source, and the mark of its writer. */
export function isNoShard(name: string): boolean {
  return name.startsWith('.') || name === SHARDS_JSON || name === FINISHED_MARK;
}

/** Lists the shards of an HTTP source, beside the shards. */
export const SHARDS_JSON: string = 'shards.json';
/** The empty file that Hadoop jobs and `katamari index build` write last. */
export const FINISHED_MARK: string = '_SUCCESS';
/** Shards of one index version. */
export const SHARDS_MAX: number = 4_000;
