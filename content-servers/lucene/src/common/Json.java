// Reads one JSON object of plain values: text, numbers, true, false, null, and {"$binary": base64}.

package katamari.lucene;

import java.math.BigDecimal;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;

final class Json {
  /** What is wrong, and where. */
  static final class Wrong extends Exception {
    private static final long serialVersionUID = 1L;

    Wrong(String why) {
      super(why);
    }
  }

  private static final String BINARY = "$binary";

  private final String text;
  private int at;

  private Json(String text) {
    this.text = text;
  }

  /** Returns the values by name, without those that are null: String, Long, Double or byte[]. */
  static Map<String, Object> object(String line) throws Wrong {
    Json json = new Json(line);
    json.space();
    Map<String, Object> object = json.object(true);
    json.space();
    if (json.at < line.length()) throw json.wrong("the end of the line");
    return object;
  }

  private Map<String, Object> object(boolean isOutermost) throws Wrong {
    Map<String, Object> object = new LinkedHashMap<>();
    expect('{');
    space();
    if (taken('}')) return object;
    for (;;) {
      space();
      String name = string();
      space();
      expect(':');
      space();
      Object value = value(isOutermost);
      if (value != null) object.put(name, value);
      space();
      if (taken('}')) return object;
      expect(',');
    }
  }

  private Object value(boolean mayBeBinary) throws Wrong {
    char first = at < text.length() ? text.charAt(at) : 0;
    if (first == '"') return string();
    if (first == '{' && mayBeBinary) return binary();
    if (first == '-' || (first >= '0' && first <= '9')) return number();
    if (word("true")) return 1L;
    if (word("false")) return 0L;
    if (word("null")) return null;
    throw wrong("text, a number, true, false, null or {\"$binary\": base64}");
  }

  private byte[] binary() throws Wrong {
    int start = at;
    Map<String, Object> object = object(false);
    if (object.size() != 1 || !(object.get(BINARY) instanceof String)) {
      at = start;
      throw wrong("{\"$binary\": base64}");
    }
    try {
      return Base64.getDecoder().decode((String) object.get(BINARY));
    } catch (IllegalArgumentException error) {
      at = start;
      throw wrong("base64");
    }
  }

  private Object number() throws Wrong {
    int start = at;
    while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) at++;
    String digits = text.substring(start, at);
    try {
      // A number that is whole is a whole one, however it is written.
      double value = Double.parseDouble(digits);
      if (value == Math.rint(value) && Math.abs(value) < 0x1p63) return new BigDecimal(digits).longValueExact();
      if (Double.isFinite(value)) return value;
    } catch (NumberFormatException | ArithmeticException notOne) {
      // Below.
    }
    at = start;
    throw wrong("a number that a double or 64 bits hold");
  }

  private String string() throws Wrong {
    expect('"');
    StringBuilder out = new StringBuilder();
    for (;;) {
      if (at >= text.length()) throw wrong("\"");
      char next = text.charAt(at++);
      if (next == '"') return out.toString();
      out.append(next == '\\' ? escape() : next);
    }
  }

  private char escape() throws Wrong {
    if (at >= text.length()) throw wrong("an escape");
    char kind = text.charAt(at++);
    int plain = "\"\\/bfnrt".indexOf(kind);
    if (plain >= 0) return "\"\\/\b\f\n\r\t".charAt(plain);
    if (kind != 'u' || at + 4 > text.length()) throw wrong("an escape");
    try {
      char unit = (char) Integer.parseInt(text.substring(at, at + 4), 16);
      at += 4;
      return unit;
    } catch (NumberFormatException notHex) {
      throw wrong("four hexadecimal digits");
    }
  }

  private boolean word(String word) {
    if (!text.startsWith(word, at)) return false;
    at += word.length();
    return true;
  }

  private boolean taken(char one) {
    if (at >= text.length() || text.charAt(at) != one) return false;
    at++;
    return true;
  }

  private void expect(char one) throws Wrong {
    if (!taken(one)) throw wrong(String.valueOf(one));
  }

  private void space() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
  }

  private Wrong wrong(String expected) {
    String found = at < text.length() ? "\"" + text.substring(at, Math.min(text.length(), at + 20)) + "\"" : "the end";
    return new Wrong("found " + found + " at column " + (at + 1) + ", expected " + expected);
  }
}
