// What a call gets that asks for a shard that is not open.

package katamari.chassis;

/** A call asks for a shard that is not open here. If the handler lets it pass, the caller gets the code no_pool. */
public final class ShardNotOpenException extends CallRefusedException {
  private static final long serialVersionUID = 1L;

  ShardNotOpenException(String message) {
    super(Code.NO_POOL, message, true);
  }
}
