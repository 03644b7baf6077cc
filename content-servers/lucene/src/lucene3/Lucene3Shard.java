// A shard on Lucene 3.6.

package katamari.lucene;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import katamari.chassis.DamagedShardException;
import katamari.chassis.OpenedShard;
import katamari_search.BadQuery;
import katamari_search.Value;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.FieldSelector;
import org.apache.lucene.document.Fieldable;
import org.apache.lucene.document.NumericField;
import org.apache.lucene.document.SetBasedFieldSelector;
import org.apache.lucene.index.CheckIndex;
import org.apache.lucene.index.CorruptIndexException;
import org.apache.lucene.index.FieldInfo;
import org.apache.lucene.index.IndexFormatTooNewException;
import org.apache.lucene.index.IndexFormatTooOldException;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.SegmentInfo;
import org.apache.lucene.index.SegmentInfos;
import org.apache.lucene.index.Term;
import org.apache.lucene.index.TermDocs;
import org.apache.lucene.index.TermEnum;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.Collector;
import org.apache.lucene.search.Explanation;
import org.apache.lucene.search.Filter;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.QueryWrapperFilter;
import org.apache.lucene.search.Scorer;
import org.apache.lucene.search.Weight;
import org.apache.lucene.store.Directory;
import org.apache.lucene.store.NIOFSDirectory;
import org.apache.lucene.store.NoLockFactory;
import org.apache.lucene.util.Constants;
import org.apache.lucene.util.ReaderUtil;

final class Lucene3Shard implements TextShard {
  private static final String READS = "Lucene " + Constants.LUCENE_MAIN_VERSION + ", which reads Lucene 3 and older";
  private static final int SLICE = 1_024;

  private final IndexReader reader;
  private final String field;
  private final Analyzer analyzer;

  private Lucene3Shard(IndexReader reader, String field, Analyzer analyzer) {
    this.reader = reader;
    this.field = field;
    this.analyzer = analyzer;
  }

  /** @throws DamagedShardException if the files are not those that Lucene has written */
  static OpenedShard<TextShard> open(Path folder, Settings settings, Analyzer analyzer)
      throws IOException, DamagedShardException {
    if (IndexFormat.of(folder) == IndexFormat.NEW)
      throw new IOException(
          "Cannot open " + folder + ": Lucene 4 or later wrote this index, and this server is " + READS
              + "; serve it with Lucene if it is of Lucene 7 or 8");
    // Memory-mapped files of this version stay open on a current Java.
    Directory directory = new NIOFSDirectory(folder.toFile(), NoLockFactory.getNoLockFactory());
    IndexReader reader = null;
    try {
      check(directory);
      reader = IndexReader.open(directory, true);
      Lucene3Shard shard = new Lucene3Shard(reader, settings.defaultField(indexedFields(reader)), analyzer);
      return new OpenedShard<>(shard, reader.numDocs(), shard.facts(directory));
    } catch (IndexFormatTooOldException | IndexFormatTooNewException error) {
      close(reader);
      throw new IOException("Cannot open " + folder + ": this server is " + READS + ": " + error.getMessage());
    } catch (CorruptIndexException | EOFException | FileNotFoundException error) {
      close(reader);
      throw new DamagedShardException(error.getMessage(), error);
    } catch (IOException error) {
      close(reader);
      // This version has no exception of its own for the end of a file.
      if (String.valueOf(error.getMessage()).contains("past EOF"))
        throw new DamagedShardException(error.getMessage(), error);
      throw error;
    } catch (RuntimeException | OutOfMemoryError error) {
      // It believes the sizes in damaged files.
      close(reader);
      throw new DamagedShardException("cannot read the index: " + error, error);
    }
  }

  /** Reads the whole index: this version has no checksums. */
  private static void check(Directory directory) throws IOException, DamagedShardException {
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    CheckIndex checker = new CheckIndex(directory);
    checker.setInfoStream(new PrintStream(said, true, StandardCharsets.UTF_8));
    CheckIndex.Status status = checker.checkIndex();
    if (status.clean) return;
    String why =
        said.toString(StandardCharsets.UTF_8)
            .lines()
            .filter(line -> line.contains("Exception") || line.contains("ERROR"))
            .findFirst()
            .orElse("it found no more");
    throw new DamagedShardException("Lucene's CheckIndex finds the index damaged: " + why.strip());
  }

  private static void close(IndexReader reader) throws IOException {
    if (reader != null) reader.close();
  }

  private static Set<String> indexedFields(IndexReader reader) {
    Set<String> fields = new TreeSet<>();
    for (FieldInfo info : ReaderUtil.getMergedFieldInfos(reader)) if (info.isIndexed) fields.add(info.name);
    return fields;
  }

  private Map<String, String> facts(Directory directory) throws IOException {
    Set<String> versions = new TreeSet<>();
    SegmentInfos segments = new SegmentInfos();
    segments.read(directory);
    for (SegmentInfo segment : segments) versions.add(segment.getVersion() == null ? "3.0 or older" : segment.getVersion());
    Map<String, String> facts = new TreeMap<>();
    facts.put("format", "Lucene" + (versions.isEmpty() ? "" : " " + String.join(", ", versions)));
    facts.put("segments", String.valueOf(segments.size()));
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
    Map<String, Long> noted = new HashMap<>();
    weight(GlobalSearcher3.noting(reader, noted), Lucene3Parser.parse(query, field, analyzer, true));
    if (noted.size() >= SearchLimits.TERMS_MAX) throw Queries.tooManyTerms();
    noted.put(GlobalSearcher3.MAX, (long) reader.maxDoc());
    noted.forEach((name, value) -> sums.merge(name, value, Long::sum));
  }

  private static Weight weight(GlobalSearcher3 searcher, Query query) throws BadQuery, IOException {
    try {
      return searcher.createNormalizedWeight(query);
    } catch (BooleanQuery.TooManyClauses error) {
      throw Queries.tooManyTerms();
    }
  }

  @Override
  public void search(String query, String filter, Map<String, Long> statistics, Sink sink)
      throws BadQuery, IOException {
    boolean isScored = statistics != null;
    Query parsed = Lucene3Parser.parse(query, field, analyzer, isScored);
    GlobalSearcher3 searcher =
        isScored ? GlobalSearcher3.of(reader, statistics) : GlobalSearcher3.noting(reader, new HashMap<>());
    Filter only = filter.isEmpty() ? null : new QueryWrapperFilter(Lucene3Parser.parse(filter, field, analyzer, false));
    try {
      searcher.search(weight(searcher, parsed), only, new SinkCollector(sink, isScored));
    } catch (BooleanQuery.TooManyClauses error) {
      throw Queries.tooManyTerms();
    }
  }

  /** Passes matches on. */
  private static final class SinkCollector extends Collector {
    private final Sink sink;
    private final boolean isScored;
    private int base;
    private Scorer scorer;

    SinkCollector(Sink sink, boolean isScored) {
      this.sink = sink;
      this.isScored = isScored;
    }

    @Override
    public void setScorer(Scorer next) {
      scorer = next;
    }

    @Override
    public void setNextReader(IndexReader segment, int first) {
      base = first;
    }

    @Override
    public boolean acceptsDocsOutOfOrder() {
      return false;
    }

    @Override
    public void collect(int document) throws IOException {
      sink.add(base + document, isScored ? scorer.score() : 0);
    }
  }

  @Override
  public Map<String, List<Value>> fields(int document, Set<String> names) throws IOException {
    if (reader.isDeleted(document)) return null;
    Document stored = names == null ? reader.document(document) : reader.document(document, only(names));
    Map<String, List<Value>> values = new LinkedHashMap<>();
    for (Fieldable one : stored.getFields())
      values.computeIfAbsent(one.name(), name -> new ArrayList<>()).add(Values.wire(valueOf(one)));
    return values;
  }

  private static FieldSelector only(Set<String> names) {
    return new SetBasedFieldSelector(names, Set.of());
  }

  private static Object valueOf(Fieldable stored) {
    if (stored instanceof NumericField) return Values.normal(((NumericField) stored).getNumericValue());
    if (!stored.isBinary()) return stored.stringValue();
    int from = stored.getBinaryOffset();
    return Arrays.copyOfRange(stored.getBinaryValue(), from, from + stored.getBinaryLength());
  }

  @Override
  public Object[] column(String name, SoftEnd end) throws BadQuery, IOException {
    return SortColumns.ALL.of(this, name, reader.maxDoc(), (column) -> readColumn(name, column, end));
  }

  /** Reads the stored field; where no document has one, the indexed terms. */
  private void readColumn(String name, SortColumns.Column column, SoftEnd end) throws BadQuery, IOException {
    boolean isStored = false;
    FieldSelector only = only(Set.of(name));
    for (int at = 0; at < column.documents(); at++) {
      if (at % SLICE == 0) end.check();
      if (reader.isDeleted(at)) continue;
      Fieldable stored = reader.document(at, only).getFieldable(name);
      if (stored == null) continue;
      column.set(at, valueOf(stored));
      isStored = true;
    }
    if (isStored || !indexedFields(reader).contains(name)) return;
    // Of several terms of a document, the last one counts.
    try (TermEnum terms = reader.terms(new Term(name)); TermDocs documents = reader.termDocs()) {
      for (Term term = terms.term(); term != null && term.field().equals(name); term = terms.term()) {
        end.check();
        column.count(term.text());
        documents.seek(terms);
        while (documents.next()) column.setAgain(documents.doc(), term.text());
        if (!terms.next()) break;
      }
    }
  }

  @Override
  public Explained explain(String query, int document, Map<String, Long> statistics) throws BadQuery, IOException {
    GlobalSearcher3 searcher = GlobalSearcher3.of(reader, statistics);
    Weight weight = weight(searcher, Lucene3Parser.parse(query, field, analyzer, true));
    Explanation explanation = searcher.explain(weight, document);
    return new Explained(explanation.isMatch(), explanation.getValue(), explanation.toString());
  }

  @Override
  public void close() throws IOException {
    SortColumns.ALL.forget(this);
    reader.close();
    reader.directory().close();
  }
}
