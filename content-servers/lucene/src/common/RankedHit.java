// A hit, and the order of hits: the same in one shard, over shards and over pages.

package katamari.lucene;

import java.util.Comparator;
import java.util.List;
import katamari_search.SortKey;

/**
 * A hit in the order of all.
 *
 * @param score NaN when no sort key needs it
 * @param values one for each sort key; null for a document without the field
 */
record RankedHit(String shard, int document, double score, Object[] values) {
  static final String SCORE = "_score";
  static final String DOCUMENT = "_document";
  private static final Comparator<RankedHit> BY_PLACE =
      (a, b) -> {
        int shards = Values.compareText(a.shard, b.shard);
        return shards != 0 ? shards : Integer.compare(a.document, b.document);
      };

  /** Whether the order depends on scores. */
  static boolean needsScores(List<SortKey> sort) {
    return sort.isEmpty() || sort.stream().anyMatch(key -> key.getField().equals(SCORE));
  }

  /** Score descending or the sort keys, then the name of the shard, then the document. Missing values come last. */
  static Comparator<RankedHit> order(List<SortKey> sort) {
    Comparator<RankedHit> order = null;
    for (int i = 0; i < sort.size(); i++) {
      Comparator<RankedHit> byKey = byKey(i, sort.get(i).isDescending());
      order = order == null ? byKey : order.thenComparing(byKey);
    }
    if (order == null) order = (a, b) -> Double.compare(b.score, a.score);
    return order.thenComparing(BY_PLACE);
  }

  private static Comparator<RankedHit> byKey(int key, boolean isDescending) {
    return (a, b) -> {
      Object one = a.values[key];
      Object other = b.values[key];
      if (one == null || other == null) return one == other ? 0 : one == null ? 1 : -1;
      return isDescending ? Values.compare(other, one) : Values.compare(one, other);
    };
  }
}
