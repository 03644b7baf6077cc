// A search in some shards. When the time is up it answers with what it has: a document is in the answer with its whole
// score or not at all, and shards that were not searched to their end are named in the coverage.

package katamari.lucene;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import katamari_content.Coverage;
import katamari_content.Lack;
import katamari_content.Missing;
import katamari_search.BadQuery;
import katamari_search.Found;
import katamari_search.Hit;
import katamari_search.SortKey;
import katamari_search.Value;
import org.apache.thrift.TException;

final class ShardSearch {
  /**
   * What is asked.
   *
   * @param after null for the first page
   * @param fields null for all, empty for none
   * @param statistics null: the sums of the shards of this call
   */
  record Request(
      String query,
      String filter,
      int count,
      List<SortKey> sort,
      RankedHit after,
      Set<String> fields,
      Map<String, Long> statistics) {}

  private final Map<String, TextShard> shards;
  private final Request request;
  private final SoftEnd end;
  private final TopHits top;
  private final boolean isScored;
  private final boolean isByScore;
  private final List<Missing> missing = new ArrayList<>();
  private int cut;
  private long total;
  private int seen;

  ShardSearch(Map<String, TextShard> open, Request request, SoftEnd end) {
    shards = new TreeMap<>(Values::compareText);
    shards.putAll(open);
    this.request = request;
    this.end = end;
    top = new TopHits(request.count(), RankedHit.order(request.sort()), request.after());
    isScored = RankedHit.needsScores(request.sort());
    isByScore = request.sort().isEmpty();
  }

  Found run() throws TException, IOException {
    Map<String, Long> statistics = null;
    boolean hasStatistics = true;
    if (isScored) {
      statistics = request.statistics() == null ? sums(shards, request.query(), end) : request.statistics();
      hasStatistics = statistics != null;
    }
    for (Map.Entry<String, TextShard> shard : shards.entrySet()) {
      seen = 0;
      try {
        if (!hasStatistics) throw new SoftEnd.Reached();
        end.check();
        search(shard.getKey(), shard.getValue(), statistics);
      } catch (SoftEnd.Reached late) {
        cut(shard.getKey());
      }
    }
    return answer();
  }

  /** Adds the statistics of shards up. Returns null when the time is up. */
  static Map<String, Long> sums(Map<String, TextShard> shards, String query, SoftEnd end)
      throws BadQuery, IOException {
    Map<String, Long> sums = new TreeMap<>();
    for (TextShard shard : shards.values()) {
      if (end.isReached()) return null;
      shard.addStatistics(query, sums);
    }
    return sums;
  }

  private void search(String name, TextShard shard, Map<String, Long> statistics) throws BadQuery, IOException {
    List<SortKey> sort = request.sort();
    Object[][] keys = new Object[sort.size()][];
    for (int i = 0; i < keys.length; i++) keys[i] = column(shard, sort.get(i).getField());
    shard.search(
        request.query(),
        request.filter(),
        statistics,
        (document, score) -> {
          if (seen++ % SearchLimits.SLICE_DOCUMENTS == 0) end.check();
          total++;
          if (isByScore && top.isTooLow(score)) return;
          Object[] values = new Object[keys.length];
          for (int i = 0; i < keys.length; i++) values[i] = value(sort.get(i).getField(), keys[i], document, score);
          top.add(new RankedHit(name, document, isScored ? score : Double.NaN, values));
        });
  }

  private Object[] column(TextShard shard, String field) throws BadQuery, IOException {
    boolean isOwn = field.equals(RankedHit.SCORE) || field.equals(RankedHit.DOCUMENT);
    return isOwn ? null : shard.column(field, end);
  }

  private static Object value(String field, Object[] column, int document, float score) {
    if (column != null) return column[document];
    return field.equals(RankedHit.SCORE) ? (Object) (double) score : (Object) (long) document;
  }

  private void cut(String shard) {
    cut++;
    if (missing.size() >= SearchLimits.MISSING_SHOWN_MAX) return;
    missing.add(new Missing(shard, Lack.CUT_SHORT, end.describe() + "; " + seen + " matches were found"));
  }

  private Found answer() throws IOException, TException {
    List<Hit> hits = new ArrayList<>();
    for (RankedHit ranked : top.best()) {
      List<Value> values = new ArrayList<>();
      for (Object value : ranked.values()) values.add(Values.wire(value));
      Hit hit = new Hit(ranked.shard(), ranked.document(), ranked.score(), values);
      Set<String> fields = request.fields();
      if (fields == null || !fields.isEmpty())
        hit.setFields(shards.get(ranked.shard()).fields(ranked.document(), fields));
      hits.add(hit);
    }
    Coverage coverage = new Coverage(shards.size(), shards.size() - cut, missing, 0, 0);
    boolean hasCursor = !hits.isEmpty() && top.hasMore();
    return new Found(total, hits, coverage, hasCursor ? Cursor.behind(hits.get(hits.size() - 1)) : "");
  }
}
