/**
 * Look-up by key. A content server whose service extends MapContent can be asked through the mesh:
 *
 * include "lookup.thrift"
 * service MapFileLookup extends lookup.MapContent {}
 */
include "content.thrift"

namespace * katamari_lookup

struct Entry {
  /** `index@version/name` */
  1: string shard
  2: binary key
  3: binary value
}

struct Entries {
  1: list<Entry> entries
  2: content.Coverage coverage
}

service MapContent {
  /**
   * Returns the value that each shard has for the key, in order of the shards.
   * @param minCoverage share of the shards that must be in the answer, from 0 to 1; with fewer, the call fails
   */
  Entries get(1: optional list<string> shards, 2: binary key, 3: double minCoverage = 1.0)
    (katamari.readonly = "true", katamari.gather = "concat")

  /** Returns the values of many keys: in order of the shards, then of the keys. */
  Entries getMany(1: optional list<string> shards, 2: list<binary> keys, 3: double minCoverage = 1.0)
    (katamari.readonly = "true", katamari.gather = "concat")
}
