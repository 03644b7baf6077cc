// Writes a shard with Lucene 3.6: one segment, documents in the order of the input.

package katamari.lucene;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Path;
import java.util.Map;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.NumericField;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.LogDocMergePolicy;
import org.apache.lucene.index.SerialMergeScheduler;
import org.apache.lucene.store.Directory;
import org.apache.lucene.store.NIOFSDirectory;
import org.apache.lucene.util.Version;

final class Lucene3Writer implements ShardWriter {
  private final Directory directory;
  private final IndexWriter writer;
  private boolean isFinished;

  Lucene3Writer(Path folder, Analyzer analyzer) throws IOException {
    directory = new NIOFSDirectory(folder.toFile());
    IndexWriterConfig config = new IndexWriterConfig(Version.LUCENE_36, new WithGaps(analyzer));
    // Neighbors are merged, so the order stays.
    config.setMergePolicy(new LogDocMergePolicy()).setMergeScheduler(new SerialMergeScheduler());
    writer = new IndexWriter(directory, config);
  }

  /** Keeps the values of a field apart. */
  private static final class WithGaps extends Analyzer {
    private final Analyzer inner;

    WithGaps(Analyzer inner) {
      this.inner = inner;
    }

    @Override
    public TokenStream tokenStream(String field, Reader text) {
      return inner.tokenStream(field, text);
    }

    @Override
    public TokenStream reusableTokenStream(String field, Reader text) throws IOException {
      return inner.reusableTokenStream(field, text);
    }

    @Override
    public int getPositionIncrementGap(String field) {
      return POSITION_GAP;
    }
  }

  @Override
  public void add(Map<String, Object> values) throws IOException {
    Document document = new Document();
    values.forEach(
        (name, value) -> {
          if (value instanceof String) {
            document.add(new Field(name, (String) value, Field.Store.YES, Field.Index.ANALYZED));
            if (!name.equals(ALL)) document.add(new Field(ALL, (String) value, Field.Store.NO, Field.Index.ANALYZED));
          } else if (value instanceof byte[]) document.add(new Field(name, (byte[]) value));
          else document.add(number(name, (Number) value));
        });
    writer.addDocument(document);
  }

  private static NumericField number(String name, Number value) {
    NumericField field = new NumericField(name, Field.Store.YES, false);
    return value instanceof Long ? field.setLongValue(value.longValue()) : field.setDoubleValue(value.doubleValue());
  }

  @Override
  public void finish() throws IOException {
    writer.forceMerge(1);
    writer.commit();
    isFinished = true;
  }

  @Override
  public void close() throws IOException {
    if (isFinished) writer.close();
    else writer.rollback();
    directory.close();
  }
}
