// The methods of TextContent (idl/search.thrift) on the open shards.

package katamari.lucene;

import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import katamari.chassis.CallRefusedException;
import katamari.chassis.Content;
import katamari.chassis.KatamariException;
import katamari_lucene.Lucene;
import katamari_lucene.Lucene3;
import katamari_search.BadQuery;
import katamari_search.Document;
import katamari_search.DocumentId;
import katamari_search.Found;
import katamari_search.SortKey;
import org.apache.thrift.TException;

final class SearchHandlers implements Lucene.Iface, Lucene3.Iface {
  private final Content<TextShard> content;

  SearchHandlers(Content<TextShard> content) {
    this.content = content;
  }

  /** Work with open shards that reads their files. */
  private interface Reading<T> {
    T of(Map<String, TextShard> open) throws IOException, TException;
  }

  private <T> T use(List<String> shards, Reading<T> reading) throws TException {
    try {
      return content.<T, IOException>use(shards, open -> reading.of(open));
    } catch (IOException error) {
      throw new TException("cannot read a shard: " + error.getMessage(), error);
    } catch (SoftEnd.Reached late) {
      throw new CallRefusedException(
          KatamariException.Code.TIMEOUT, late.getMessage() + "; ask for fewer shards or allow more time");
    }
  }

  @Override
  public Map<String, Long> statistics(List<String> shards, String query) throws TException {
    Queries.check(query);
    SoftEnd end = SoftEnd.ofCall();
    return use(shards, open -> present(ShardSearch.sums(open, query, end)));
  }

  @Override
  public Found search(
      List<String> shards,
      String query,
      int count,
      List<SortKey> sort,
      String filter,
      List<String> fields,
      String after,
      Map<String, Long> statistics,
      double minCoverage)
      throws TException {
    Queries.check(query);
    Queries.check(filter);
    if (count < 0 || count > SearchLimits.COUNT_MAX)
      throw Queries.bad("count is " + count + ", expected 0 to " + SearchLimits.COUNT_MAX);
    List<SortKey> keys = sort == null ? List.of() : sort;
    if (keys.size() > SearchLimits.SORT_KEYS_MAX)
      throw Queries.bad("found " + keys.size() + " sort keys, the limit is " + SearchLimits.SORT_KEYS_MAX);
    Set<String> shown = fields == null ? Set.of() : names(fields);
    RankedHit last = Cursor.read(after, keys);
    ShardSearch.Request request =
        new ShardSearch.Request(query, filter, count, keys, last, shown, given(statistics));
    SoftEnd end = SoftEnd.ofCall();
    return use(shards, open -> new ShardSearch(open, request, end).run());
  }

  @Override
  public long count(List<String> shards, String query, String filter, double minCoverage) throws TException {
    Queries.check(query);
    Queries.check(filter);
    SoftEnd end = SoftEnd.ofCall();
    return use(
        shards,
        open -> {
          long[] total = {0};
          for (TextShard shard : open.values()) {
            // A number cannot say that it is too low, so a late count fails.
            end.check();
            shard.search(query, filter, null, (document, score) -> {
              if (total[0]++ % SearchLimits.SLICE_DOCUMENTS == 0) end.check();
            });
          }
          return total[0];
        });
  }

  @Override
  public List<Document> documents(
      List<String> shards, List<DocumentId> ids, List<String> fields, double minCoverage) throws TException {
    if (ids.size() > SearchLimits.DOCUMENTS_MAX)
      throw new TException("found " + ids.size() + " ids, the limit is " + SearchLimits.DOCUMENTS_MAX);
    Set<String> shown = fields == null ? null : names(fields);
    SoftEnd end = SoftEnd.ofCall();
    return use(
        shards,
        open -> {
          List<Document> found = new ArrayList<>();
          for (DocumentId id : ids) {
            end.check();
            TextShard shard = open.get(id.getShard());
            if (shard == null || id.getDocument() < 0 || id.getDocument() >= shard.maxDocument()) continue;
            var stored = shard.fields((int) id.getDocument(), shown);
            if (stored != null) found.add(new Document(id, stored));
          }
          return found;
        });
  }

  @Override
  public String explain(List<String> shards, String query, DocumentId id, Map<String, Long> statistics)
      throws TException {
    Queries.check(query);
    Map<String, Long> sums = given(statistics);
    SoftEnd end = SoftEnd.ofCall();
    return use(
        shards,
        open -> {
          TextShard shard = open.get(id.getShard());
          if (shard == null || id.getDocument() < 0 || id.getDocument() >= shard.maxDocument()) return "";
          Map<String, Long> all = sums == null ? present(ShardSearch.sums(open, query, end)) : sums;
          TextShard.Explained explained = shard.explain(query, (int) id.getDocument(), all);
          String begin = explained.isMatch() ? "score " + shortest(explained.score()) : "no match";
          return begin + "\n" + explained.text();
        });
  }

  private static Map<String, Long> present(Map<String, Long> sums) {
    if (sums == null) throw new SoftEnd.Reached();
    return sums;
  }

  /** Returns null for all fields. */
  private static Set<String> names(List<String> fields) {
    return fields.contains("*") ? null : Set.copyOf(fields);
  }

  /** The sums of the caller; null for none. Empty counts as absent. */
  private static Map<String, Long> given(Map<String, Long> statistics) throws BadQuery {
    if (statistics == null || statistics.isEmpty()) return null;
    if (statistics.size() > SearchLimits.STATISTICS_MAX)
      throw Queries.bad("found " + statistics.size() + " statistics, the limit is " + SearchLimits.STATISTICS_MAX);
    return new HashMap<>(statistics);
  }

  /** Returns the shortest decimal number that is this double, as JSON and JavaScript write it. */
  private static String shortest(double value) {
    if (!Double.isFinite(value)) return Double.toString(value);
    for (int digits = 1; digits < 17; digits++) {
      BigDecimal rounded = new BigDecimal(value).round(new MathContext(digits));
      if (rounded.doubleValue() == value) return rounded.stripTrailingZeros().toPlainString();
    }
    return new BigDecimal(value).round(new MathContext(17)).toPlainString();
  }
}
