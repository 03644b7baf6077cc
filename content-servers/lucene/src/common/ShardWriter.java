// What the builder needs of an index that it writes.

package katamari.lucene;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/**
 * Writes one shard. Text is indexed and stored in its field, and indexed once more in the field `text`, which words
 * without a field search. Numbers and bytes are stored.
 */
interface ShardWriter extends AutoCloseable {
  String ALL = "text";
  /** Phrases do not match across fields. */
  int POSITION_GAP = 100;

  /** Makes a writer for a folder that does not exist yet. */
  interface Factory {
    ShardWriter create(Path folder) throws IOException;
  }

  /** @param document values by field: String, Long, Double or byte[] */
  void add(Map<String, Object> document) throws IOException;

  /** Writes the rest. Without it, `close` leaves no index. */
  void finish() throws IOException;

  @Override
  void close() throws IOException;
}
