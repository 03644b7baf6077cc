// Values as idl/search.thrift has them, and their order: numbers, text by its UTF-8 bytes, bytes.

package katamari.lucene;

import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.util.Arrays;
import katamari_search.Value;

final class Values {
  private Values() {}

  /** @param value a String, a number, a byte[], or null for a document without the field */
  static Value wire(Object value) {
    if (value == null) return Value.missing(true);
    if (value instanceof String) return Value.text((String) value);
    if (value instanceof byte[]) return Value.bytes(ByteBuffer.wrap((byte[]) value));
    if (value instanceof Double || value instanceof Float) return Value.real(((Number) value).doubleValue());
    return Value.whole(((Number) value).longValue());
  }

  /** The inverse of `wire`. */
  static Object of(Value value) {
    switch (value.getSetField()) {
      case TEXT:
        return value.getText();
      case WHOLE:
        return value.getWhole();
      case REAL:
        return value.getReal();
      case BYTES:
        return value.getBytes();
      default:
        return null;
    }
  }

  /** Returns what Lucene has stored with the types of `wire`. */
  static Object normal(Object stored) {
    if (stored instanceof Float) return ((Float) stored).doubleValue();
    if (stored instanceof Number && !(stored instanceof Double)) return ((Number) stored).longValue();
    return stored;
  }

  /** Compares values that are not null. */
  static int compare(Object a, Object b) {
    int ranks = rank(a) - rank(b);
    if (ranks != 0) return ranks;
    if (a instanceof String) return compareText((String) a, (String) b);
    if (a instanceof byte[]) return Arrays.compareUnsigned((byte[]) a, (byte[]) b);
    if (a instanceof Long && b instanceof Long) return Long.compare((Long) a, (Long) b);
    return compareNumbers((Number) a, (Number) b);
  }

  private static int rank(Object value) {
    return value instanceof String ? 1 : value instanceof byte[] ? 2 : 0;
  }

  private static int compareNumbers(Number a, Number b) {
    double one = a.doubleValue();
    double other = b.doubleValue();
    boolean isPlain = Double.isFinite(one) && Double.isFinite(other);
    // A long and a double are compared exactly.
    if (isPlain && (a instanceof Long || b instanceof Long)) return exact(a).compareTo(exact(b));
    return one < other ? -1 : one > other ? 1 : 0;
  }

  private static BigDecimal exact(Number number) {
    return number instanceof Long ? BigDecimal.valueOf((Long) number) : new BigDecimal(number.doubleValue());
  }

  /** By characters, as UTF-8 bytes are. Java compares UTF-16, where U+10000 is below U+E000. */
  static int compareText(String a, String b) {
    int length = Math.min(a.length(), b.length());
    for (int at = 0; at < length; at++) {
      char one = a.charAt(at);
      char other = b.charAt(at);
      if (one != other) return rankOfUnit(one) - rankOfUnit(other);
    }
    return a.length() - b.length();
  }

  /** Moves surrogates behind all other code units. */
  private static int rankOfUnit(char unit) {
    return Character.isSurrogate(unit) ? unit + 0x10000 : unit;
  }
}
