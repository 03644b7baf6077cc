// Writes a shard with Lucene 8: one segment, documents in the order of the input.

package katamari.lucene;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.DelegatingAnalyzerWrapper;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.StoredField;
import org.apache.lucene.document.TextField;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.LogDocMergePolicy;
import org.apache.lucene.index.SerialMergeScheduler;
import org.apache.lucene.store.FSDirectory;

final class Lucene8Writer implements ShardWriter {
  private final FSDirectory directory;
  private final IndexWriter writer;

  Lucene8Writer(Path folder, Analyzer analyzer) throws IOException {
    directory = FSDirectory.open(folder);
    IndexWriterConfig config = new IndexWriterConfig(new WithGaps(analyzer));
    // Neighbors are merged, so the order stays.
    config.setMergePolicy(new LogDocMergePolicy()).setMergeScheduler(new SerialMergeScheduler());
    writer = new IndexWriter(directory, config.setCommitOnClose(false));
  }

  /** Keeps the values of a field apart. */
  private static final class WithGaps extends DelegatingAnalyzerWrapper {
    private final Analyzer inner;

    WithGaps(Analyzer inner) {
      super(PER_FIELD_REUSE_STRATEGY);
      this.inner = inner;
    }

    @Override
    protected Analyzer getWrappedAnalyzer(String field) {
      return inner;
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
            document.add(new TextField(name, (String) value, Field.Store.YES));
            if (!name.equals(ALL)) document.add(new TextField(ALL, (String) value, Field.Store.NO));
          } else if (value instanceof Long) document.add(new StoredField(name, (Long) value));
          else if (value instanceof Double) document.add(new StoredField(name, (Double) value));
          else document.add(new StoredField(name, (byte[]) value));
        });
    writer.addDocument(document);
  }

  @Override
  public void finish() throws IOException {
    writer.forceMerge(1);
    writer.commit();
  }

  @Override
  public void close() throws IOException {
    writer.close();
    directory.close();
  }
}
