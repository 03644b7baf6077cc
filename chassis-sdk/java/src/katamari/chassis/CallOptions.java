// Options of a client of another service.

package katamari.chassis;

import java.time.Duration;
import java.util.function.Consumer;

/** Options of a client: `new CallOptions().service("wiki").minCoverage(0.9)`. */
public final class CallOptions {
  String service = "";
  String version = "";
  Duration timeout;
  Double minCoverage;
  Consumer<ReplyInfo> onReply;

  /** Name of the service in the mesh, as that of an index; by default that of the generated class. */
  public CallOptions service(String name) {
    service = name;
    return this;
  }

  /** Exact version, or a SemVer range; by default the mesh chooses. */
  public CallOptions version(String range) {
    version = range;
    return this;
  }

  /** Timeout of each call, if it ends before the deadline of the current call. */
  public CallOptions timeout(Duration most) {
    timeout = most;
    return this;
  }

  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter `minCoverage` of
   * a method, and is also for methods without one.
   */
  public CallOptions minCoverage(double share) {
    if (!(share >= 0 && share <= 1))
      throw new IllegalArgumentException("minCoverage is " + share + ", expected a share from 0 to 1");
    minCoverage = share;
    return this;
  }

  /**
   * Called with the facts about each reply, before the method returns its value or throws a declared exception. Not
   * called for other errors. What it throws, the method throws.
   */
  public CallOptions onReply(Consumer<ReplyInfo> callback) {
    onReply = callback;
    return this;
  }
}
