// The limits of messages. The mesh sets two of them in the environment of a chassis.

package katamari.chassis;

/**
 * Limits that the mesh has set.
 *
 * @param frameBytesMax bytes of a message
 * @param nestingMax nesting depth of structs and containers, including the argument struct
 */
record Limits(int frameBytesMax, int nestingMax) {
  /** Bytes by which a frame may be larger: the mesh adds a context to a call. */
  static final int CONTEXT_BYTES_MAX = 1024 * 1024;
  /** Largest frame whose rest is read and dropped, so that its connection lives on. */
  static final int SKIPPED_BYTES_MAX = 1 << 30;
  static final int NAME_BYTES_MAX = 1024;
  /** A context has 3 levels. */
  private static final int NESTING_LEAST = 3;

  private static volatile Limits known;

  /** @throws IllegalArgumentException for a variable that is no number above 0 */
  static Limits ofMesh() {
    Limits limits = known;
    if (limits == null) {
      int frame = Math.min(read("KATAMARI_FRAME_BYTES_MAX", 16 * 1024 * 1024), SKIPPED_BYTES_MAX);
      limits = new Limits(frame, Math.max(NESTING_LEAST, read("KATAMARI_NESTING_MAX", 64)));
      known = limits;
    }
    return limits;
  }

  /** Returns the largest frame that is kept in memory. */
  int keptBytesMax() {
    return frameBytesMax + CONTEXT_BYTES_MAX;
  }

  private static int read(String name, int otherwise) {
    String value = System.getenv(name);
    if (value == null || value.isEmpty()) return otherwise;
    if (!value.matches("0*[1-9][0-9]{0,9}"))
      throw new IllegalArgumentException(name + " is \"" + value + "\", expected a whole number above 0");
    return (int) Math.min(Long.parseLong(value), Integer.MAX_VALUE);
  }
}
