// A shard on Lucene 8.

package katamari.lucene;

import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Supplier;
import katamari.chassis.DamagedShardException;
import katamari.chassis.OpenedShard;
import katamari_search.BadQuery;
import katamari_search.Value;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.document.Document;
import org.apache.lucene.index.CorruptIndexException;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.FieldInfo;
import org.apache.lucene.index.FieldInfos;
import org.apache.lucene.index.IndexFormatTooNewException;
import org.apache.lucene.index.IndexFormatTooOldException;
import org.apache.lucene.index.IndexOptions;
import org.apache.lucene.index.IndexableField;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.index.MultiBits;
import org.apache.lucene.index.SegmentReader;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.CollectionStatistics;
import org.apache.lucene.search.Explanation;
import org.apache.lucene.search.MultiTermQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.QueryVisitor;
import org.apache.lucene.search.Scorable;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.SimpleCollector;
import org.apache.lucene.store.FSDirectory;
import org.apache.lucene.store.NoLockFactory;
import org.apache.lucene.util.Bits;
import org.apache.lucene.util.BytesRef;
import org.apache.lucene.util.Version;
import org.apache.lucene.util.automaton.ByteRunAutomaton;

final class Lucene8Shard implements TextShard {
  private static final String READS = "Lucene " + Version.LATEST + ", which reads indexes of Lucene 7 and 8";

  private final DirectoryReader reader;
  private final Bits live;
  private final String field;
  private final Analyzer analyzer;

  private Lucene8Shard(DirectoryReader reader, String field, Analyzer analyzer) {
    this.reader = reader;
    live = MultiBits.getLiveDocs(reader);
    this.field = field;
    this.analyzer = analyzer;
  }

  /** @throws DamagedShardException if the files are not those that Lucene has written */
  static OpenedShard<TextShard> open(Path folder, Settings settings, Analyzer analyzer)
      throws IOException, DamagedShardException {
    if (IndexFormat.of(folder) == IndexFormat.OLD)
      throw new IOException(
          "Cannot open " + folder + ": Lucene 3 or older wrote this index, and this server is " + READS
              + "; serve it with Lucene3");
    DirectoryReader reader = null;
    try {
      reader = DirectoryReader.open(FSDirectory.open(folder, NoLockFactory.INSTANCE));
      for (LeafReaderContext leaf : reader.leaves()) leaf.reader().checkIntegrity();
      Set<String> indexed = indexedFields(reader);
      Lucene8Shard shard = new Lucene8Shard(reader, settings.defaultField(indexed), analyzer);
      return new OpenedShard<>(shard, reader.numDocs(), shard.facts());
    } catch (IndexFormatTooOldException | IndexFormatTooNewException error) {
      close(reader);
      throw new IOException(
          "Cannot open " + folder + ": this server is " + READS + "; serve the index with a server of its version, or "
              + "rewrite it with Lucene's IndexUpgrader: " + error.getMessage());
    } catch (CorruptIndexException | EOFException | FileNotFoundException | NoSuchFileException error) {
      close(reader);
      throw new DamagedShardException(error.getMessage(), error);
    } catch (IOException error) {
      close(reader);
      throw error;
    } catch (RuntimeException error) {
      // Files that are shorter than they say make offsets that do not exist.
      close(reader);
      throw new DamagedShardException("cannot read the index: " + error, error);
    }
  }

  private static void close(DirectoryReader reader) throws IOException {
    if (reader != null) reader.close();
  }

  private static Set<String> indexedFields(DirectoryReader reader) {
    Set<String> fields = new TreeSet<>();
    for (FieldInfo info : FieldInfos.getMergedFieldInfos(reader))
      if (info.getIndexOptions() != IndexOptions.NONE) fields.add(info.name);
    return fields;
  }

  private Map<String, String> facts() {
    Map<String, String> facts = new TreeMap<>();
    Set<String> codecs = new TreeSet<>();
    Set<String> versions = new TreeSet<>();
    for (LeafReaderContext leaf : reader.leaves()) {
      if (!(leaf.reader() instanceof SegmentReader)) continue;
      SegmentReader segment = (SegmentReader) leaf.reader();
      codecs.add(segment.getSegmentInfo().info.getCodec().getName());
      versions.add(segment.getSegmentInfo().info.getVersion().toString());
    }
    facts.put("format", "Lucene" + (versions.isEmpty() ? "" : " " + String.join(", ", versions)));
    facts.put("codec", String.join(", ", codecs));
    facts.put("segments", String.valueOf(reader.leaves().size()));
    facts.put("deleted", String.valueOf(reader.numDeletedDocs()));
    facts.put("field", field);
    facts.put("fields", String.join(", ", indexedFields(reader)));
    facts.put("analyzer", analyzer.getClass().getName());
    return facts;
  }

  @Override
  public int maxDocument() {
    return reader.maxDoc();
  }

  @Override
  public void addStatistics(String query, Map<String, Long> sums) throws BadQuery, IOException {
    GlobalSearcher searcher = new GlobalSearcher(reader, null);
    // The fields of the query as it is: a pattern that matches nothing here counts by the documents here, too.
    NotingVisitor asked = new NotingVisitor();
    Lucene8Parser.parse(query, field, analyzer, true).visit(asked);
    NotingVisitor expanded = new NotingVisitor();
    rewritten(searcher, query, true).visit(expanded);
    Set<Term> terms = expanded.terms;
    if (terms.size() >= SearchLimits.TERMS_MAX) throw Queries.tooManyTerms();
    Set<String> fields = asked.fields;
    fields.addAll(expanded.fields);
    for (Term term : terms) {
      int documents = reader.docFreq(term);
      if (documents == 0) continue;
      add(sums, "df:" + GlobalSearcher.nameOf(term), documents);
      add(sums, "tf:" + GlobalSearcher.nameOf(term), reader.totalTermFreq(term));
    }
    for (String one : fields) {
      add(sums, "max:" + one, reader.maxDoc());
      CollectionStatistics collection = searcher.collectionStatistics(one);
      if (collection == null) continue;
      add(sums, "docs:" + one, collection.docCount());
      add(sums, "sumtf:" + one, collection.sumTotalTermFreq());
      add(sums, "sumdf:" + one, collection.sumDocFreq());
    }
  }

  /** Notes the terms and the fields of a query. */
  private static final class NotingVisitor extends QueryVisitor {
    final Set<Term> terms = new HashSet<>();
    final Set<String> fields = new HashSet<>();

    @Override
    public void consumeTerms(Query of, Term... found) {
      for (Term term : found) {
        terms.add(term);
        fields.add(term.field());
      }
    }

    @Override
    public void consumeTermsMatching(Query of, String name, Supplier<ByteRunAutomaton> automaton) {
      fields.add(name);
    }

    @Override
    public void visitLeaf(Query leaf) {
      if (leaf instanceof MultiTermQuery) fields.add(((MultiTermQuery) leaf).getField());
    }
  }

  private static void add(Map<String, Long> sums, String name, long value) {
    sums.merge(name, value, Long::sum);
  }

  private Query rewritten(GlobalSearcher searcher, String query, boolean isScored) throws BadQuery, IOException {
    Query parsed = Lucene8Parser.parse(query, field, analyzer, isScored);
    try {
      return searcher.rewrite(parsed);
    } catch (BooleanQuery.TooManyClauses error) {
      throw Queries.tooManyTerms();
    }
  }

  @Override
  public void search(String query, String filter, Map<String, Long> statistics, Sink sink)
      throws BadQuery, IOException {
    GlobalSearcher searcher = new GlobalSearcher(reader, statistics);
    Query all = rewritten(searcher, query, statistics != null);
    if (!filter.isEmpty()) {
      BooleanQuery.Builder both = new BooleanQuery.Builder().add(all, BooleanClause.Occur.MUST);
      all = both.add(rewritten(searcher, filter, false), BooleanClause.Occur.FILTER).build();
    }
    try {
      searcher.search(all, new SinkCollector(sink, statistics != null));
    } catch (IllegalArgumentException error) {
      throw Queries.bad("the query and its statistics do not match: " + error.getMessage());
    }
  }

  /** Passes matches on. */
  private static final class SinkCollector extends SimpleCollector {
    private final Sink sink;
    private final boolean isScored;
    private int base;
    private Scorable scorer;

    SinkCollector(Sink sink, boolean isScored) {
      this.sink = sink;
      this.isScored = isScored;
    }

    @Override
    public ScoreMode scoreMode() {
      return isScored ? ScoreMode.COMPLETE : ScoreMode.COMPLETE_NO_SCORES;
    }

    @Override
    protected void doSetNextReader(LeafReaderContext context) {
      base = context.docBase;
    }

    @Override
    public void setScorer(Scorable scorable) {
      scorer = scorable;
    }

    @Override
    public void collect(int document) throws IOException {
      sink.add(base + document, isScored ? scorer.score() : 0);
    }
  }

  @Override
  public Map<String, List<Value>> fields(int document, Set<String> names) throws IOException {
    if (live != null && !live.get(document)) return null;
    Document stored = names == null ? reader.document(document) : reader.document(document, names);
    Map<String, List<Value>> values = new LinkedHashMap<>();
    for (IndexableField one : stored) {
      Object value = valueOf(one);
      if (value != null) values.computeIfAbsent(one.name(), name -> new ArrayList<>()).add(Values.wire(value));
    }
    return values;
  }

  private static Object valueOf(IndexableField stored) {
    if (stored.numericValue() != null) return Values.normal(stored.numericValue());
    BytesRef bytes = stored.binaryValue();
    return bytes == null ? stored.stringValue() : BytesRef.deepCopyOf(bytes).bytes;
  }

  @Override
  public Object[] column(String name, SoftEnd end) throws BadQuery, IOException {
    return SortColumns.ALL.of(this, name, reader.maxDoc(), (column) -> Lucene8Columns.read(reader, name, column, end));
  }

  @Override
  public Explained explain(String query, int document, Map<String, Long> statistics) throws BadQuery, IOException {
    GlobalSearcher searcher = new GlobalSearcher(reader, statistics);
    Explanation explanation = searcher.explain(rewritten(searcher, query, true), document);
    return new Explained(explanation.isMatch(), explanation.getValue().floatValue(), explanation.toString());
  }

  @Override
  public void close() throws IOException {
    SortColumns.ALL.forget(this);
    reader.close();
    reader.directory().close();
  }
}
