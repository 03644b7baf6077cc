// What documents are sorted by: the first value of a field, from doc values, else from the stored fields.

package katamari.lucene;

import java.io.IOException;
import java.util.Set;
import katamari_search.BadQuery;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.DocValues;
import org.apache.lucene.index.DocValuesType;
import org.apache.lucene.index.FieldInfo;
import org.apache.lucene.index.IndexableField;
import org.apache.lucene.index.LeafReader;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.index.SortedDocValues;
import org.apache.lucene.index.SortedNumericDocValues;
import org.apache.lucene.index.SortedSetDocValues;
import org.apache.lucene.search.DocIdSetIterator;
import org.apache.lucene.util.BytesRef;
import org.apache.lucene.util.NumericUtils;

final class Lucene8Columns {
  private static final int SLICE = 1_024;
  /** Documents that are looked at for the type of a number. */
  private static final int SAMPLES = 1_000;

  private Lucene8Columns() {}

  static void read(DirectoryReader reader, String field, SortColumns.Column column, SoftEnd end)
      throws BadQuery, IOException {
    for (LeafReaderContext leaf : reader.leaves()) read(leaf.reader(), leaf.docBase, field, column, end);
  }

  private static void read(LeafReader leaf, int base, String field, SortColumns.Column column, SoftEnd end)
      throws BadQuery, IOException {
    FieldInfo info = leaf.getFieldInfos().fieldInfo(field);
    DocValuesType type = info == null ? DocValuesType.NONE : info.getDocValuesType();
    switch (type) {
      case SORTED:
        SortedDocValues one = DocValues.getSorted(leaf, field);
        for (int at = next(one, end); at >= 0; at = next(one, end))
          column.set(base + at, one.lookupOrd(one.ordValue()).utf8ToString());
        break;
      case SORTED_SET:
        SortedSetDocValues many = DocValues.getSortedSet(leaf, field);
        for (int at = next(many, end); at >= 0; at = next(many, end))
          column.set(base + at, many.lookupOrd(many.nextOrd()).utf8ToString());
        break;
      case NUMERIC:
      case SORTED_NUMERIC:
        numbers(leaf, base, field, type == DocValuesType.NUMERIC, column, end);
        break;
      default:
        if (info != null) stored(leaf, base, field, column, end);
    }
  }

  /** Lucene keeps a double as a long, and does not say so. The stored field tells. */
  private static void numbers(
      LeafReader leaf, int base, String field, boolean isPlain, SortColumns.Column column, SoftEnd end)
      throws BadQuery, IOException {
    Object sample = sample(leaf, field);
    SortedNumericDocValues values = DocValues.getSortedNumeric(leaf, field);
    for (int at = next(values, end); at >= 0; at = next(values, end)) {
      long bits = values.nextValue();
      if (sample instanceof Double)
        column.set(base + at, isPlain ? Double.longBitsToDouble(bits) : NumericUtils.sortableLongToDouble(bits));
      else if (sample instanceof Float)
        column.set(
            base + at,
            (double) (isPlain ? Float.intBitsToFloat((int) bits) : NumericUtils.sortableIntToFloat((int) bits)));
      else column.set(base + at, bits);
    }
  }

  private static Object sample(LeafReader leaf, String field) throws IOException {
    for (int at = 0; at < Math.min(SAMPLES, leaf.maxDoc()); at++) {
      IndexableField stored = leaf.document(at, Set.of(field)).getField(field);
      if (stored != null && stored.numericValue() != null) return stored.numericValue();
    }
    return null;
  }

  private static void stored(LeafReader leaf, int base, String field, SortColumns.Column column, SoftEnd end)
      throws BadQuery, IOException {
    Set<String> only = Set.of(field);
    for (int at = 0; at < leaf.maxDoc(); at++) {
      if (at % SLICE == 0) end.check();
      IndexableField stored = leaf.document(at, only).getField(field);
      if (stored == null) continue;
      BytesRef bytes = stored.binaryValue();
      if (stored.numericValue() != null) column.set(base + at, Values.normal(stored.numericValue()));
      else column.set(base + at, bytes == null ? stored.stringValue() : BytesRef.deepCopyOf(bytes).bytes);
    }
  }

  /** Returns the next document; -1 after the last one. */
  private static int next(DocIdSetIterator values, SoftEnd end) throws IOException {
    int document = values.nextDoc();
    if (document % SLICE == 0) end.check();
    return document == DocIdSetIterator.NO_MORE_DOCS ? -1 : document;
  }
}
