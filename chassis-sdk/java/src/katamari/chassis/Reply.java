// The reply to a call: a result or an exception.

package katamari.chassis;

import org.apache.thrift.TApplicationException;

/**
 * A reply.
 *
 * @param body holds a struct: the result, or a TApplicationException
 * @param bytes length of the struct
 * @param error the error of the mesh that it is; null for a result, and for an exception of a handler
 */
record Reply(boolean isException, byte[] body, int bytes, KatamariException error) {
  static final Reply VOID = of(Message.EMPTY_STRUCT);

  static Reply of(byte[] result) {
    return new Reply(false, result, result.length, null);
  }

  /** The reply for an exception of a handler. */
  static Reply failed(String message) {
    return exception(message, TApplicationException.INTERNAL_ERROR, null);
  }

  static Reply refused(KatamariException error) {
    return exception(error.getMessage(), error.getType(), error);
  }

  private static Reply exception(String message, int type, KatamariException error) {
    String cut = message.length() <= MESSAGE_CHARS_MAX ? message : message.substring(0, MESSAGE_CHARS_MAX) + "…";
    byte[] body = new Fields.Writer().text(1, cut).i32(2, type).bytes();
    return new Reply(true, body, body.length, error);
  }

  private static final int MESSAGE_CHARS_MAX = 8192;
}
