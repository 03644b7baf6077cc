// The binary protocol of the library, which refuses text that is not UTF-8.

package katamari.chassis;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TProtocolException;
import org.apache.thrift.transport.TTransport;

class StrictProtocol extends TBinaryProtocol {
  private static final char REPLACEMENT = '\ufffd';

  StrictProtocol(TTransport transport) {
    super(transport, true, true);
  }

  @Override
  public String readString() throws TException {
    ByteBuffer bytes = readBinary();
    byte[] array = bytes.array();
    int at = bytes.arrayOffset() + bytes.position();
    String text = new String(array, at, bytes.remaining(), StandardCharsets.UTF_8);
    // The character may also have been sent.
    if (text.indexOf(REPLACEMENT) >= 0) check(bytes);
    return text;
  }

  private static void check(ByteBuffer bytes) throws TProtocolException {
    try {
      StandardCharsets.UTF_8.newDecoder().decode(bytes);
    } catch (CharacterCodingException notText) {
      throw new TProtocolException(TProtocolException.INVALID_DATA, "a text is not UTF-8");
    }
  }
}
