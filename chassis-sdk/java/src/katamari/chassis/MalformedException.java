// Bytes that are not a message of the mesh.

package katamari.chassis;

import java.io.IOException;

/** The bytes are not a valid message. The connection cannot be read any further, except after {@link TooDeep}. */
class MalformedException extends IOException {
  private static final long serialVersionUID = 1L;

  MalformedException(String why) {
    super(why);
  }

  /** A struct that is nested deeper than the limit. Its frame is well formed, so the next one can be read. */
  static final class TooDeep extends MalformedException {
    private static final long serialVersionUID = 1L;

    TooDeep(String why) {
      super(why);
    }
  }
}
