// What documents are sorted by, of all open shards together: kept in memory up to a limit, the least recently used
// columns are forgotten first. A column is counted while it is read, so one that is too large ends early.

package katamari.lucene;

import java.io.IOException;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import katamari_search.BadQuery;

final class SortColumns {
  /** Those of this process. */
  static final SortColumns ALL = new SortColumns(bytesMax());

  /** Reads a column of a shard. */
  interface Source {
    void read(Column column) throws IOException, BadQuery;
  }

  private final long bytesMax;
  private final Map<Key, Column> kept = new LinkedHashMap<>(16, 0.75f, true);
  /** Bytes of the kept columns and of those that are being read. */
  private long bytes;

  private SortColumns(long bytesMax) {
    this.bytesMax = bytesMax;
  }

  /**
   * Returns the values of a field by document.
   *
   * @param shard any object that stands for the shard
   * @throws BadQuery if there is no room for the column
   */
  Object[] of(Object shard, String field, int documents, Source source) throws IOException, BadQuery {
    Key key = new Key(shard, field);
    synchronized (this) {
      Column known = kept.get(key);
      if (known != null) return known.values;
    }
    Column column = new Column(field, documents);
    boolean isRead = false;
    try {
      column.take(REFERENCE_BYTES * documents);
      column.values = new Object[documents];
      source.read(column);
      column.takeCounted();
      isRead = true;
    } finally {
      if (!isRead) release(column);
    }
    synchronized (this) {
      Column other = kept.put(key, column);
      if (other != null) bytes -= other.taken;
    }
    return column.values;
  }

  /** Forgets the columns of a shard that is closed. */
  synchronized void forget(Object shard) {
    for (Iterator<Map.Entry<Key, Column>> all = kept.entrySet().iterator(); all.hasNext(); ) {
      Map.Entry<Key, Column> one = all.next();
      if (one.getKey().shard != shard) continue;
      bytes -= one.getValue().taken;
      all.remove();
    }
  }

  private synchronized void release(Column column) {
    bytes -= column.taken;
  }

  private synchronized boolean hasTaken(long more) {
    for (Iterator<Column> oldest = kept.values().iterator(); bytes + more > bytesMax && oldest.hasNext(); ) {
      bytes -= oldest.next().taken;
      oldest.remove();
    }
    if (bytes + more > bytesMax) return false;
    bytes += more;
    return true;
  }

  /** A column while it is read, and afterwards. */
  final class Column {
    private final String field;
    private final int documents;
    private Object[] values;
    private long taken;
    private long counted;

    private Column(String field, int documents) {
      this.field = field;
      this.documents = documents;
    }

    int documents() {
      return documents;
    }

    /** Sets the value of a document: a String, Long, Double or byte[]. */
    void set(int document, Object value) throws BadQuery {
      count(value);
      values[document] = value;
    }

    /** The same for a value that has been counted. */
    void setAgain(int document, Object value) {
      values[document] = value;
    }

    void count(Object value) throws BadQuery {
      counted += VALUE_BYTES;
      if (value instanceof String) counted += 2L * ((String) value).length();
      else if (value instanceof byte[]) counted += ((byte[]) value).length;
      if (counted >= STEP_BYTES) takeCounted();
    }

    private void takeCounted() throws BadQuery {
      take(counted);
      counted = 0;
    }

    private void take(long more) throws BadQuery {
      if (!hasTaken(more))
        throw new BadQuery(
            "sorting " + documents + " documents of a shard by the field \"" + field + "\" takes more memory than the "
                + bytesMax / MIB + " MiB that this server has for sorting; sort by a field with shorter values, make "
                + "smaller shards, or raise " + VARIABLE,
            -1);
      taken += more;
    }
  }

  private static final class Key {
    private final Object shard;
    private final String field;

    Key(Object shard, String field) {
      this.shard = shard;
      this.field = field;
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Key && ((Key) other).shard == shard && ((Key) other).field.equals(field);
    }

    @Override
    public int hashCode() {
      return System.identityHashCode(shard) * 31 + field.hashCode();
    }
  }

  /** A quarter of the memory that Java may use, unless the environment says otherwise. */
  private static long bytesMax() {
    String text = System.getenv().getOrDefault(VARIABLE, "");
    if (text.isEmpty()) return Runtime.getRuntime().maxMemory() / 4;
    if (text.matches("[1-9][0-9]{0,6}")) return Long.parseLong(text) * MIB;
    throw new IllegalArgumentException(VARIABLE + " is \"" + text + "\", expected a whole number of MiB above 0");
  }

  private static final String VARIABLE = "KATAMARI_LUCENE_SORT_MIB";
  private static final long MIB = 1024 * 1024;
  private static final long REFERENCE_BYTES = 8;
  /** What an object takes beside its characters or bytes. */
  private static final long VALUE_BYTES = 56;
  /** Bytes that are counted at once. */
  private static final long STEP_BYTES = 64 * 1024;
}
