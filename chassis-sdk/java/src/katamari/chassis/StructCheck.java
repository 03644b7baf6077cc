// Finds the end of a struct in strict-binary Thrift, and compares every declared size with the bytes that were
// received, before the Thrift library decodes anything: it would allocate memory for what a message only declares.

package katamari.chassis;

import java.nio.ByteBuffer;
import org.apache.thrift.protocol.TType;

final class StructCheck {
  private final ByteBuffer data;
  private final int nestingMax;

  private StructCheck(ByteBuffer data, int nestingMax) {
    this.data = data;
    this.nestingMax = nestingMax;
  }

  /**
   * Checks that the bytes from `at` to the end of the frame are exactly one struct.
   *
   * @throws MalformedException if they are not; TooDeep if it is nested deeper than the limit
   */
  static void check(byte[] frame, int at, int nestingMax) throws MalformedException {
    int end = endOf(frame, at, TType.STRUCT, nestingMax);
    if (end != frame.length)
      throw new MalformedException(
          "its struct has " + (end - at) + " bytes, but " + (frame.length - at) + " were received");
  }

  /** Returns the offset after a value of that type. */
  static int endOf(byte[] frame, int at, byte type, int nestingMax) throws MalformedException {
    try {
      int end = new StructCheck(ByteBuffer.wrap(frame), nestingMax).skip(at, type, nestingMax);
      if (end > frame.length) throw new IndexOutOfBoundsException();
      return end;
    } catch (IndexOutOfBoundsException tooShort) {
      throw new MalformedException("its struct ends before the stop byte");
    } catch (StackOverflowError tooDeep) {
      throw new MalformedException.TooDeep("structs and containers are nested deeper than the stack of the process");
    }
  }

  /** Returns the offset after a value. It may be past the end of the data; the next read then fails. */
  private int skip(int at, byte type, int levels) throws MalformedException {
    int size = fixedSize(type);
    if (size > 0) return at + size;
    if (type == TType.STRING) return at + 4 + count(at, 1);
    if (levels == 0)
      throw new MalformedException.TooDeep(
          "structs and containers are nested deeper than " + nestingMax + ", the limit");
    switch (type) {
      case TType.STRUCT:
        return skipStruct(at, levels - 1);
      case TType.MAP:
        return skipMap(at, levels - 1);
      case TType.LIST:
      case TType.SET:
        byte element = data.get(at);
        return skipElements(at + 5, element, count(at + 1, least(element)), levels - 1);
      default:
        throw notAType(type);
    }
  }

  private int skipStruct(int start, int levels) throws MalformedException {
    int at = start;
    for (;;) {
      byte type = data.get(at);
      if (type == TType.STOP) return at + 1;
      at = skip(at + 3, type, levels);
    }
  }

  private int skipMap(int start, int levels) throws MalformedException {
    byte key = data.get(start);
    byte value = data.get(start + 1);
    int count = count(start + 2, least(key) + least(value));
    int at = start + 6;
    for (int i = 0; i < count; i++) at = skip(skip(at, key, levels), value, levels);
    return at;
  }

  private int skipElements(int start, byte type, int count, int levels) throws MalformedException {
    int size = fixedSize(type);
    // `count` has compared this product with the bytes that follow.
    if (size > 0) return start + count * size;
    int at = start;
    for (int i = 0; i < count; i++) at = skip(at, type, levels);
    return at;
  }

  /** Reads a declared count. @throws MalformedException unless that many items of at least `each` bytes can follow */
  private int count(int at, int each) throws MalformedException {
    int count = data.getInt(at);
    int left = data.limit() - at - 4;
    if (count < 0 || (long) count * each > left)
      throw new MalformedException(count + " elements or bytes are declared, " + left + " bytes follow");
    return count;
  }

  /** Returns the least size of a value in bytes. */
  private static int least(byte type) throws MalformedException {
    int size = fixedSize(type);
    if (size > 0) return size;
    switch (type) {
      case TType.STRUCT:
        return 1;
      case TType.STRING:
        return 4;
      case TType.MAP:
        return 6;
      case TType.LIST:
      case TType.SET:
        return 5;
      default:
        throw notAType(type);
    }
  }

  /** Returns the size of the types that have a fixed one; 0 for the others. */
  private static int fixedSize(byte type) {
    switch (type) {
      case TType.BOOL:
      case TType.BYTE:
        return 1;
      case TType.I16:
        return 2;
      case TType.I32:
        return 4;
      case TType.I64:
      case TType.DOUBLE:
        return 8;
      case UUID:
        return 16;
      default:
        return 0;
    }
  }

  private static MalformedException notAType(byte type) {
    return new MalformedException("type " + type + " is not a Thrift type");
  }

  /** Not in this version of the library; in it, 16 is ENUM, which never travels. */
  private static final byte UUID = 16;
}
