// A searcher of one shard that scores with the statistics of all shards. It is no IndexSearcher, because a TermQuery
// asks the reader of an IndexSearcher itself for its statistics.

package katamari.lucene;

import java.io.IOException;
import java.util.Map;
import java.util.SortedSet;
import java.util.TreeSet;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.FieldSelector;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.Collector;
import org.apache.lucene.search.Explanation;
import org.apache.lucene.search.Filter;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.Searcher;
import org.apache.lucene.search.Sort;
import org.apache.lucene.search.TopDocs;
import org.apache.lucene.search.TopFieldDocs;
import org.apache.lucene.search.Weight;

/**
 * Statistics are named `df:field:term` (documents with the term) and `max` (documents in all). Prefixes and patterns
 * expand to the terms of the statistics, so that a query has the same clauses, and the same norm, in each shard.
 */
final class GlobalSearcher3 extends Searcher {
  static final String MAX = "max";
  private static final String FREQUENCY = "df:";

  private final IndexSearcher local;
  private final IndexReader reader;
  private final Map<String, Long> statistics;
  /** Where the terms of a query and their frequencies here are noted; null for a search. */
  private final Map<String, Long> noted;

  /** @param statistics sums over all shards */
  static GlobalSearcher3 of(IndexReader reader, Map<String, Long> statistics) {
    return new GlobalSearcher3(reader, statistics, null);
  }

  /** A searcher that notes the statistics of a query instead of using any. */
  static GlobalSearcher3 noting(IndexReader reader, Map<String, Long> noted) {
    return new GlobalSearcher3(reader, null, noted);
  }

  private GlobalSearcher3(IndexReader reader, Map<String, Long> statistics, Map<String, Long> noted) {
    local = new IndexSearcher(reader);
    this.reader = reader;
    this.statistics = statistics;
    this.noted = noted;
  }

  @Override
  public int docFreq(Term term) throws IOException {
    String name = FREQUENCY + term.field() + ":" + term.text();
    if (noted != null) {
      int documents = local.docFreq(term);
      noted.put(name, (long) documents);
      return documents;
    }
    return (int) Math.min(statistics.getOrDefault(name, 0L), Integer.MAX_VALUE);
  }

  @Override
  public int maxDoc() {
    if (noted != null) return local.maxDoc();
    return (int) Math.min(statistics.getOrDefault(MAX, (long) local.maxDoc()), Integer.MAX_VALUE);
  }

  @Override
  public Query rewrite(Query query) throws IOException {
    IndexReader terms = noted != null ? reader : new TermListReader(reader, known());
    Query last = query;
    for (Query next = last.rewrite(terms); next != last; next = last.rewrite(terms)) last = next;
    return last;
  }

  /** The terms that a document has, of those in the statistics. */
  private SortedSet<Term> known() {
    SortedSet<Term> terms = new TreeSet<>();
    statistics.forEach(
        (name, documents) -> {
          int colon = name.indexOf(':', FREQUENCY.length());
          if (documents > 0 && colon > 0 && name.startsWith(FREQUENCY))
            terms.add(new Term(name.substring(FREQUENCY.length(), colon), name.substring(colon + 1)));
        });
    return terms;
  }

  @Override
  public void search(Weight weight, Filter filter, Collector results) throws IOException {
    local.search(weight, filter, results);
  }

  @Override
  public TopDocs search(Weight weight, Filter filter, int count) throws IOException {
    return local.search(weight, filter, count);
  }

  @Override
  public TopFieldDocs search(Weight weight, Filter filter, int count, Sort sort) throws IOException {
    return local.search(weight, filter, count, sort);
  }

  @Override
  public Explanation explain(Weight weight, int document) throws IOException {
    return local.explain(weight, document);
  }

  @Override
  public Document doc(int document) throws IOException {
    return local.doc(document);
  }

  @Override
  public Document doc(int document, FieldSelector fields) throws IOException {
    return local.doc(document, fields);
  }

  @Override
  public void close() throws IOException {
    local.close();
  }
}
