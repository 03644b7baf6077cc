// Facts about a reply beside its value: which version replied, and how many shards are in the answer of an index.

package katamari.chassis;

import java.util.List;
import java.util.Optional;
import org.apache.thrift.protocol.TType;

/**
 * Facts about a reply.
 *
 * @param version of the service or index that replied; "" if the mesh did not name it
 * @param coverage empty for other services than indices, and for a declared exception
 */
public record ReplyInfo(String version, Optional<Coverage> coverage) {
  /**
   * How many shards of an index are in an answer.
   *
   * @param shards those that the call was about
   * @param complete those of them that are wholly in the answer
   * @param missing the others in order of their names, at most 10
   */
  public record Coverage(int shards, int complete, List<AbsentShard> missing) {}

  /**
   * A shard that is not wholly in an answer.
   *
   * @param shard `index@version/shard`
   * @param lack why: NO_REPLICA, TIMED_OUT, FAILED, OVERLOADED or CUT_SHORT; more may be added
   */
  public record AbsentShard(String shard, String lack) {}

  /** @param at offset of the ReplyContext; negative if the reply has none */
  static ReplyInfo read(byte[] frame, int at) throws MalformedException {
    String version = "";
    int shards = 0;
    int complete = 0;
    List<String> missing = List.of();
    if (at >= 0) {
      Fields context = new Fields(frame, at);
      while (context.next()) {
        if (context.is(1, TType.STRING)) version = context.text();
        else if (context.is(13, TType.I32)) shards = context.i32();
        else if (context.is(14, TType.I32)) complete = context.i32();
        else if (context.is(15, TType.LIST)) missing = context.texts();
      }
    }
    if (shards == 0) return new ReplyInfo(version, Optional.empty());
    List<AbsentShard> named = missing.stream().map(ReplyInfo::absentShard).toList();
    return new ReplyInfo(version, Optional.of(new Coverage(shards, complete, named)));
  }

  private static AbsentShard absentShard(String text) {
    String[] words = text.split(" ", 2);
    return new AbsentShard(words[0], words.length > 1 ? words[1] : "");
  }
}
