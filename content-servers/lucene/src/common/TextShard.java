// What the search needs of an open index. One implementation stands on Lucene 8, one on Lucene 3.

package katamari.lucene;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import katamari_search.BadQuery;
import katamari_search.Value;

/** An open shard. Any number of threads may use it. */
interface TextShard extends AutoCloseable {
  /** Gets every document that matches, in order of their numbers. */
  interface Sink {
    /** @param score 0 when the search does not score */
    void add(int document, float score);
  }

  /** Documents, deleted ones included. */
  int maxDocument();

  /** Adds the statistics that a query needs to those of other shards. */
  void addStatistics(String query, Map<String, Long> sums) throws BadQuery, IOException;

  /**
   * Finds all documents that match.
   *
   * @param filter "" for none
   * @param statistics sums over all shards; null: no scores are needed
   */
  void search(String query, String filter, Map<String, Long> statistics, Sink sink) throws BadQuery, IOException;

  /** Returns the stored fields with those names (null: all); null if there is no such document. */
  Map<String, List<Value>> fields(int document, Set<String> names) throws IOException;

  /** Returns what documents are sorted by: a String, Long, Double, byte[], or null for a document without the field. */
  Object[] column(String field, SoftEnd end) throws BadQuery, IOException;

  /** Explains a score. Returns "" for a document that does not match. */
  Explained explain(String query, int document, Map<String, Long> statistics) throws BadQuery, IOException;

  /** An explanation in Lucene's words. */
  record Explained(boolean isMatch, float score, String text) {}

  @Override
  void close() throws IOException;
}
