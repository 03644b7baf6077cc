// Keeps the best hits of many, in memory for twice as many as are asked for.

package katamari.lucene;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

final class TopHits {
  private static final int SPARE = 64;

  private final int count;
  private final Comparator<RankedHit> order;
  private final RankedHit after;
  private final List<RankedHit> hits = new ArrayList<>();
  private RankedHit worst;
  /** Hits behind `after`, kept or not. */
  private long behind;

  /** @param after hits up to this one were in earlier answers; null for none */
  TopHits(int count, Comparator<RankedHit> order, RankedHit after) {
    this.count = count;
    this.order = order;
    this.after = after;
  }

  void add(RankedHit hit) {
    if (after != null && order.compare(hit, after) <= 0) return;
    behind++;
    if (count == 0 || (worst != null && order.compare(hit, worst) > 0)) return;
    hits.add(hit);
    if (hits.size() >= 2 * count + SPARE) cut();
  }

  /**
   * Whether a hit with this score is not among the best, when hits are in order of their scores; then it is counted.
   * Saves the object for most of them.
   */
  boolean isTooLow(float score) {
    if (worst == null || score >= worst.score()) return false;
    behind++;
    return true;
  }

  /** The best hits in order. */
  List<RankedHit> best() {
    cut();
    return hits;
  }

  /** Whether there are hits behind the best ones. */
  boolean hasMore() {
    return behind > count;
  }

  private void cut() {
    hits.sort(order);
    if (hits.size() < count || count == 0) return;
    hits.subList(count, hits.size()).clear();
    worst = hits.get(count - 1);
  }
}
