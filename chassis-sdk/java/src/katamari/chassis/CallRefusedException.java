// What handlers throw to refuse a call.

package katamari.chassis;

/**
 * A handler refuses a call, and the caller gets the code. Any other KatamariException, such as that of a call that the
 * handler has made, counts as a fault of the handler.
 */
public class CallRefusedException extends KatamariException {
  private static final long serialVersionUID = 1L;

  /**
   * @param code BAD_REQUEST for a call that will never work, TIMEOUT for one that cannot be finished in its time
   * @param why what is wrong and what to do; the caller reads it
   */
  public CallRefusedException(Code code, String why) {
    this(checked(code), why, false);
  }

  CallRefusedException(Code code, String why, boolean isNotRun) {
    super(code, why, 0, 0, isNotRun);
  }

  private static Code checked(Code code) {
    if (code == Code.BAD_REQUEST || code == Code.TIMEOUT) return code;
    throw new IllegalArgumentException("a handler can refuse a call with bad_request or timeout, not with " + code);
  }
}
