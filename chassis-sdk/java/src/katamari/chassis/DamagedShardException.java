// What a content server throws for files that must be fetched again.

package katamari.chassis;

/** The files of a shard are not as they should be. The mesh checks them, and fetches them again. */
public final class DamagedShardException extends Exception {
  private static final long serialVersionUID = 1L;

  public DamagedShardException(String why) {
    super(why);
  }

  public DamagedShardException(String why, Throwable cause) {
    super(why, cause);
  }
}
