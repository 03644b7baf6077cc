// A shard that a content server has opened.

package katamari.chassis;

import java.util.Map;

/**
 * What a content server returns for a shard that it opens.
 *
 * @param shard what the handlers get
 * @param entries number of documents or records
 * @param facts for people: format, codec, analyzer
 */
public record OpenedShard<S>(S shard, long entries, Map<String, String> facts) {
  public OpenedShard {
    facts = Map.copyOf(facts);
  }

  public OpenedShard(S shard, long entries) {
    this(shard, entries, Map.of());
  }
}
