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

/** Why a shard is not, or not wholly, in an answer. */
enum Lack {
  /** No manager that can be reached serves it. */
  NO_REPLICA = 1
  /** It did not answer in time. */
  TIMED_OUT = 2
  /** Every try failed. */
  FAILED = 3
  /** All its replicas were too busy. */
  OVERLOADED = 4
  /** Its time was up, and it answered with what it had found. */
  CUT_SHORT = 5
}

struct Missing {
  /** `index@version/name` */
  1: string shard
  2: Lack lack
  3: string why
}

/** Which shards are in an answer. */
struct Coverage {
  /** Shards that the call is about. */
  1: i32 shards
  /** Those of them whose whole answer is in. */
  2: i32 complete
  /** The others in order of their names, at most 100. */
  3: list<Missing> missing
  /** Requests to managers that were repeated, and requests that were sent twice because the first one was slow. */
  4: i32 retried
  5: i32 hedged
}
