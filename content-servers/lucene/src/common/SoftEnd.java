// The soft end of a call: a search looks at the clock and stops when 90 % of the time is used. The rest is for the
// answer and its way back.

package katamari.lucene;

import katamari.chassis.CallContext;

final class SoftEnd {
  private static final double SHARE = 0.9;
  private final long budgetNs;
  private final long startNs = System.nanoTime();

  private SoftEnd(long leftNs) {
    budgetNs = (long) (leftNs * SHARE);
  }

  /** Returns the soft end of the call that this thread handles. */
  static SoftEnd ofCall() {
    return new SoftEnd(CallContext.current().timeLeft().toNanos());
  }

  boolean isReached() {
    return System.nanoTime() - startNs >= budgetNs;
  }

  /** @throws Reached when the time is up */
  void check() {
    if (isReached()) throw new Reached();
  }

  /** `450 ms, 90 % of the time of this call, were used` */
  String describe() {
    return Math.round(budgetNs / 1e6) + " ms, 90 % of the time of this call, were used";
  }

  /** The time is up. Ends a search inside of Lucene. */
  static final class Reached extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Reached() {
      super("the time of the call is up", null, false, false);
    }
  }
}
