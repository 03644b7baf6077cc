// Reads and writes the structs of Katamari, which are written by hand: they must match idl/katamari.thrift,
// idl/chassis.thrift and idl/content.thrift. The bytes to read have passed StructCheck.

package katamari.chassis;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.thrift.protocol.TType;

/** Reads the fields of a struct one after the other. */
final class Fields {
  private final byte[] frame;
  private final ByteBuffer data;
  private byte type;
  private short id;
  private int end;

  /** @param at offset of the struct */
  Fields(byte[] frame, int at) {
    this.frame = frame;
    data = ByteBuffer.wrap(frame);
    end = at;
  }

  /** Moves to the next field. Returns false after the last one; `position` is then the end of the struct. */
  boolean next() throws MalformedException {
    data.position(end);
    type = data.get();
    if (type == TType.STOP) return false;
    id = data.getShort();
    end = StructCheck.endOf(frame, data.position(), type, Integer.MAX_VALUE);
    return true;
  }

  int position() {
    return data.position();
  }

  /** Whether this is the field with that id and type. Fields of another type are left out, as generated code does. */
  boolean is(int wantedId, byte wantedType) {
    return id == wantedId && type == wantedType;
  }

  long i64() {
    return data.getLong();
  }

  int i32() {
    return data.getInt();
  }

  boolean bool() {
    return data.get() != 0;
  }

  String text() {
    int length = data.getInt();
    int at = data.position();
    data.position(at + length);
    String text = new String(frame, at, length, StandardCharsets.UTF_8);
    return text.indexOf('\ufffd') < 0 ? text : escaped(ByteBuffer.wrap(frame, at, length));
  }

  List<String> texts() {
    if (data.get() != TType.STRING) return List.of();
    int count = data.getInt();
    List<String> texts = new ArrayList<>(count);
    for (int i = 0; i < count; i++) texts.add(text());
    return texts;
  }

  Map<String, String> textMap() {
    boolean isText = data.get() == TType.STRING & data.get() == TType.STRING;
    if (!isText) return Map.of();
    int count = data.getInt();
    Map<String, String> texts = new LinkedHashMap<>();
    for (int i = 0; i < count; i++) texts.put(text(), text());
    return texts;
  }

  /** Decodes UTF-8. The lone surrogate 0xDC00 + byte stands for each byte that is not UTF-8. */
  private static String escaped(ByteBuffer bytes) {
    CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
    CharBuffer text = CharBuffer.allocate(bytes.remaining());
    while (bytes.hasRemaining()) {
      CoderResult result = decoder.decode(bytes, text, true);
      if (!result.isMalformed()) break;
      for (int i = 0; i < result.length(); i++) text.put((char) (0xDC00 + (bytes.get() & 0xFF)));
    }
    return text.flip().toString();
  }

  /** Writes fields. */
  static final class Writer {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final DataOutputStream out = new DataOutputStream(bytes);

    /** Something that writes to a stream of memory, which never fails. */
    private interface Write {
      void to(DataOutputStream out) throws IOException;
    }

    private Writer put(Write write) {
      try {
        write.to(out);
      } catch (IOException impossible) {
        throw new UncheckedIOException(impossible);
      }
      return this;
    }

    private Writer field(int type, int id, Write write) {
      return put(
          to -> {
            to.writeByte(type);
            to.writeShort(id);
            write.to(to);
          });
    }

    Writer i32(int id, int value) {
      return field(TType.I32, id, to -> to.writeInt(value));
    }

    Writer i64(int id, long value) {
      return field(TType.I64, id, to -> to.writeLong(value));
    }

    Writer real(int id, double value) {
      return field(TType.DOUBLE, id, to -> to.writeDouble(value));
    }

    Writer bool(int id, boolean value) {
      return field(TType.BOOL, id, to -> to.writeByte(value ? 1 : 0));
    }

    Writer text(int id, String value) {
      return field(TType.STRING, id, to -> text(to, value));
    }

    Writer texts(int id, Collection<String> values) {
      return field(
          TType.LIST,
          id,
          to -> {
            to.writeByte(TType.STRING);
            to.writeInt(values.size());
            for (String value : values) text(to, value);
          });
    }

    Writer textMap(int id, Map<String, String> values) {
      return field(
          TType.MAP,
          id,
          to -> {
            to.writeByte(TType.STRING);
            to.writeByte(TType.STRING);
            to.writeInt(values.size());
            for (Map.Entry<String, String> entry : values.entrySet()) {
              text(to, entry.getKey());
              text(to, entry.getValue());
            }
          });
    }

    /** Writes a struct that `bytes()` of another writer has returned. */
    Writer struct(int id, byte[] struct) {
      return field(TType.STRUCT, id, to -> to.write(struct));
    }

    /** Ends the struct and returns its bytes. */
    byte[] bytes() {
      put(to -> to.writeByte(TType.STOP));
      return bytes.toByteArray();
    }

    private static void text(DataOutputStream to, String value) throws IOException {
      byte[] utf8 = value.getBytes(StandardCharsets.UTF_8);
      to.writeInt(utf8.length);
      to.write(utf8);
    }
  }
}
