// A searcher of one shard that scores with the statistics of all shards.

package katamari.lucene;

import java.io.IOException;
import java.util.Map;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.CollectionStatistics;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.TermStatistics;

/**
 * Statistics are named `df:field:term` and `tf:field:term` (documents with the term, occurrences), and `max:field`,
 * `docs:field`, `sumtf:field`, `sumdf:field` (documents in all, documents with the field, its tokens, its postings).
 */
final class GlobalSearcher extends IndexSearcher {
  private final Map<String, Long> statistics;

  /** @param statistics sums over all shards; null for those of this one */
  GlobalSearcher(IndexReader reader, Map<String, Long> statistics) {
    super(reader);
    this.statistics = statistics;
  }

  @Override
  public TermStatistics termStatistics(Term term, int documents, long occurrences) throws IOException {
    long all = sum("df:" + nameOf(term), documents);
    return new TermStatistics(term.bytes(), all, Math.max(all, sum("tf:" + nameOf(term), occurrences)));
  }

  @Override
  public CollectionStatistics collectionStatistics(String field) throws IOException {
    CollectionStatistics own = super.collectionStatistics(field);
    if (statistics == null || statistics.getOrDefault("docs:" + field, 0L) <= 0) return own;
    return new CollectionStatistics(
        field,
        sum("max:" + field, 0),
        sum("docs:" + field, 0),
        sum("sumtf:" + field, 0),
        sum("sumdf:" + field, 0));
  }

  private long sum(String name, long own) {
    Long sum = statistics == null ? null : statistics.get(name);
    return sum == null ? own : sum;
  }

  static String nameOf(Term term) {
    return term.field() + ":" + term.text();
  }
}
