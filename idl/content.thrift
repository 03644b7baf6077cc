/**
 * Content: what makes a chassis a content server. A content server holds shards: files on the disk of its machine that
 * its manager has fetched, checked and told it to open. The methods of its own service have a parameter `shards`: the
 * shards to look at. Callers leave it out; the mesh fills it in.
 */
namespace * katamari_content

/** What was found in a shard when it was opened. */
struct ShardFacts {
  /** Documents or records: what a person counts. */
  1: i64 entries
  /** For people: format, codec, analyzer. */
  2: map<string, string> more
}

exception ShardRefused {
  1: string why
  /** The files are not as they should be: fetching them again may help. */
  2: bool isDamaged
}

/**
 * Served by a chassis whose ChassisDetails say `holdsShards`, under the multiplexed name `katamari.Content`. Only its
 * own manager calls it.
 */
service Content {
  /**
   * Opens the files at `path`. Returns the facts again if the shard is open.
   * @param shard `index@version/name`
   * @param path folder or file
   */
  ShardFacts open(1: string shard, 2: string path) throws (1: ShardRefused refused) (katamari.idempotent = "true")

  /**
   * Calls that use the shard are finished first. After the reply, no file of it is open. Does nothing for an unknown
   * shard.
   */
  void close(1: string shard) (katamari.idempotent = "true")

  /** The open shards. */
  list<string> shards() (katamari.readonly = "true")
}
