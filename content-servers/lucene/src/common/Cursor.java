// Cursors: a hit without its fields, in strict binary and base64url, so whoever merges answers can make one.

package katamari.lucene;

import java.util.Base64;
import java.util.List;
import katamari_search.BadQuery;
import katamari_search.Hit;
import katamari_search.SortKey;
import katamari_search.Value;
import org.apache.thrift.TException;
import org.apache.thrift.TSerializer;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.transport.TMemoryInputTransport;

final class Cursor {
  private Cursor() {}

  static String behind(Hit hit) throws TException {
    Hit bare = new Hit(hit.getShard(), hit.getDocument(), hit.getScore(), hit.getSortValues());
    return Base64.getUrlEncoder().withoutPadding().encodeToString(new TSerializer().serialize(bare));
  }

  /**
   * Reads a cursor. Returns null for "".
   *
   * @throws BadQuery for text that is no cursor, or one of another order
   */
  static RankedHit read(String after, List<SortKey> sort) throws BadQuery {
    if (after.isEmpty()) return null;
    Hit hit = new Hit();
    try {
      TMemoryInputTransport in = new TMemoryInputTransport(Base64.getUrlDecoder().decode(after));
      hit.read(new TBinaryProtocol(in));
      boolean isWhole = in.getBytesRemainingInBuffer() == 0 && hit.isSetShard() && hit.isSetDocument();
      if (!isWhole || !hit.isSetScore()) throw new TException("it is not a whole hit");
    } catch (TException | RuntimeException error) {
      throw Queries.bad("\"after\" is not the cursor of an earlier answer");
    }
    List<Value> values = hit.isSetSortValues() ? hit.getSortValues() : List.of();
    if (values.size() != sort.size() || Double.isNaN(hit.getScore()) == RankedHit.needsScores(sort))
      throw Queries.bad("\"after\" is the cursor of a call with other sort keys; sort all pages alike");
    Object[] keys = values.stream().map(value -> value.isSet() ? Values.of(value) : null).toArray();
    return new RankedHit(hit.getShard(), (int) hit.getDocument(), hit.getScore(), keys);
  }
}
