// Heads of strict-binary Thrift messages, and whole messages as frames.

package katamari.chassis;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TType;

/**
 * The head of a message.
 *
 * @param bodyStart offset of the first byte after the head
 */
record Message(byte type, String name, int sequenceId, int bodyStart) {
  /** Bytes of a head without the name. */
  static final int HEAD_BYTES = 12;
  /** The head of field 32767 of type struct, which holds a context. */
  private static final byte[] CONTEXT_FIELD = {TType.STRUCT, 0x7f, (byte) 0xff};
  /** Bytes of the longest head with what shows whether a context follows. */
  static final int START_BYTES_MAX = HEAD_BYTES + Limits.NAME_BYTES_MAX + CONTEXT_FIELD.length;
  static final byte[] EMPTY_STRUCT = {TType.STOP};
  private static final int VERSION_1 = 0x80010000;

  /** @throws MalformedException unless the frame begins with a complete head */
  static Message read(byte[] frame) throws MalformedException {
    if (frame.length < HEAD_BYTES) throw new MalformedException("it has " + frame.length + " bytes, a head has 12");
    ByteBuffer data = ByteBuffer.wrap(frame);
    int word = data.getInt();
    if ((word & 0xFFFF0000) != VERSION_1)
      throw new MalformedException(
          "it begins with 0x" + Integer.toHexString(word) + ", expected 0x8001 and the message type");
    int nameBytes = data.getInt();
    if (nameBytes < 0 || nameBytes > Limits.NAME_BYTES_MAX)
      throw new MalformedException("a method name of " + nameBytes + " bytes, limit is " + Limits.NAME_BYTES_MAX);
    if (nameBytes > frame.length - HEAD_BYTES) throw new MalformedException("its head ends inside the method name");
    try {
      ByteBuffer bytes = ByteBuffer.wrap(frame, 8, nameBytes);
      String name = StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
      return new Message((byte) word, name, data.getInt(8 + nameBytes), HEAD_BYTES + nameBytes);
    } catch (CharacterCodingException notText) {
      throw new MalformedException("its method name is not UTF-8");
    }
  }

  /** Returns the bytes from the begin of a message up to where a context would begin; -1 if it begins like none. */
  static int startBytes(byte[] firstEight) {
    ByteBuffer data = ByteBuffer.wrap(firstEight);
    int nameBytes = data.getInt(4);
    boolean isMessage = (data.getInt(0) & 0xFFFF0000) == VERSION_1;
    if (!isMessage || nameBytes < 0 || nameBytes > Limits.NAME_BYTES_MAX) return -1;
    return HEAD_BYTES + nameBytes + CONTEXT_FIELD.length;
  }

  /** Returns the offset of the context; -1 if there is none. */
  int contextStart(byte[] frame) {
    int end = bodyStart + CONTEXT_FIELD.length;
    if (end > frame.length) return -1;
    for (int i = 0; i < CONTEXT_FIELD.length; i++) if (frame[bodyStart + i] != CONTEXT_FIELD[i]) return -1;
    return end;
  }

  /**
   * Returns a message as a frame: its length, head and body.
   *
   * @param context the struct of a context; null for none
   * @param body a struct
   */
  static ByteBuffer framed(byte type, String name, int sequenceId, byte[] context, byte[] body, int bodyBytes) {
    byte[] text = name.getBytes(StandardCharsets.UTF_8);
    int contextBytes = context == null ? 0 : CONTEXT_FIELD.length + context.length;
    int size = HEAD_BYTES + text.length + contextBytes + bodyBytes;
    ByteBuffer frame = ByteBuffer.allocate(4 + size);
    frame.putInt(size).putInt(VERSION_1 | type).putInt(text.length).put(text).putInt(sequenceId);
    if (context != null) frame.put(CONTEXT_FIELD).put(context);
    return frame.put(body, 0, bodyBytes).flip();
  }

  /** Writes a context as field 32767, which stands before the first field of a struct. */
  static void writeContext(ByteArrayOutputStream out, byte[] context) {
    out.writeBytes(CONTEXT_FIELD);
    out.writeBytes(context);
  }

  /** Tells the mesh that this process takes no more calls. */
  static ByteBuffer drainNotice() {
    return framed(TMessageType.ONEWAY, "katamari.Link:drain", 0, null, EMPTY_STRUCT, EMPTY_STRUCT.length);
  }
}
