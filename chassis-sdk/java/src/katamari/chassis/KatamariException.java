// The errors of the mesh, and the table that maps each code to its number on the wire and its Thrift type.

package katamari.chassis;

import java.util.Locale;
import org.apache.thrift.TApplicationException;
import org.apache.thrift.protocol.TType;

/** The mesh refused a call or could not finish it. The message says why and what to do. */
public class KatamariException extends TApplicationException {
  private static final long serialVersionUID = 1L;

  /** Codes of the error table; the numbers are those of ErrorCode in idl/katamari.thrift. */
  public enum Code {
    NO_POOL(1, UNKNOWN_METHOD),
    OVERLOADED(2, INTERNAL_ERROR),
    TIMEOUT(3, INTERNAL_ERROR),
    RESOURCE_FAILED(4, INTERNAL_ERROR),
    DRAINING(5, INTERNAL_ERROR),
    DENIED(6, INTERNAL_ERROR),
    RATE_LIMITED(7, INTERNAL_ERROR),
    TOO_LARGE(8, INTERNAL_ERROR),
    BAD_REQUEST(9, PROTOCOL_ERROR),
    INTERNAL(10, INTERNAL_ERROR),
    CANCELLED(11, INTERNAL_ERROR),
    REFUSED_AS_POISON(12, INTERNAL_ERROR),
    INCOMPLETE(13, INTERNAL_ERROR);

    final int wire;
    final int thrift;

    Code(int wire, int thrift) {
      this.wire = wire;
      this.thrift = thrift;
    }

    /** The name as in the documentation: `no_pool`. */
    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }

    /** A code that this version does not know is INTERNAL. */
    static Code of(int wire) {
      for (Code code : values()) if (code.wire == wire) return code;
      return INTERNAL;
    }
  }

  private final Code code;
  private final long retryAfterMs;
  private final int stage;
  private final boolean isNotRun;

  KatamariException(Code code, String message) {
    this(code, message, 0, 0, false);
  }

  KatamariException(Code code, String message, long retryAfterMs, int stage, boolean isNotRun) {
    super(code.thrift, message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.stage = stage;
    this.isNotRun = isNotRun;
  }

  /** An error of a call that certainly did not run. */
  static KatamariException notRun(Code code, String message) {
    return new KatamariException(code, message, 0, code == Code.TIMEOUT ? IN_QUEUE : 0, true);
  }

  public Code code() {
    return code;
  }

  /** Delay in ms after which a retry may succeed; 0 if unknown. */
  public long retryAfterMs() {
    return retryAfterMs;
  }

  /** Where the deadline passed: `queue` or `service`; "" if it did not pass, or the stage is unknown. */
  public String stage() {
    return stage == IN_QUEUE ? "queue" : stage == IN_SERVICE ? "service" : "";
  }

  /** Whether the call certainly did not run, so that a retry is safe. */
  public boolean isNotRun() {
    return isNotRun;
  }

  /** Writes the fields of a ReplyContext that say what this error is. */
  void write(Fields.Writer context) {
    context.i32(7, code.wire);
    if (stage != 0) context.i32(9, stage);
    if (isNotRun) context.bool(10, true);
  }

  /**
   * Returns the error of the mesh in a reply that is an exception; null if another process is to blame.
   *
   * @param at offset of the ReplyContext
   */
  static KatamariException read(byte[] frame, int at) throws MalformedException {
    int errorCode = 0;
    long retryAfterMs = 0;
    int stage = 0;
    boolean isNotRun = false;
    Fields context = new Fields(frame, at);
    while (context.next()) {
      if (context.is(7, TType.I32)) errorCode = context.i32();
      else if (context.is(8, TType.I64)) retryAfterMs = context.i64();
      else if (context.is(9, TType.I32)) stage = context.i32();
      else if (context.is(10, TType.BOOL)) isNotRun = context.bool();
    }
    if (errorCode == 0) return null;
    String message = "The mesh gave no reason";
    Fields exception = new Fields(frame, context.position());
    while (exception.next()) if (exception.is(1, TType.STRING)) message = exception.text();
    return new KatamariException(Code.of(errorCode), message, retryAfterMs, stage, isNotRun);
  }

  private static final int IN_QUEUE = 1;
  private static final int IN_SERVICE = 2;
}
