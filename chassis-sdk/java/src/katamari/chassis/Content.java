// The shards that a content server has open. The mesh says which shards to open and close; handlers use them through
// `use`, and a shard is closed only when no call uses it. No thread waits for another: what has to wait is a future.

package katamari.chassis;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import org.apache.thrift.TException;

/**
 * Makes a chassis a content server.
 *
 * <pre>
 * var content = new Content&lt;Words&gt;((path, name) -&gt; Words.read(path));
 * Chassis.serve(handler, Search.Processor::new, new Options("search.thrift", "1.0.0").content(content));
 * </pre>
 *
 * @param <S> a shard, as handlers get it
 */
public final class Content<S> {
  /** Opens the files of a shard. Its exception tells the operator why the shard is refused. */
  public interface Opener<S> {
    /**
     * @param path folder or file; read-only
     * @param name `index@version/shard`
     * @throws DamagedShardException when the files must be fetched again
     */
    OpenedShard<S> open(Path path, String name) throws Exception;
  }

  /** Closes all files of a shard. No call uses it any more. */
  public interface Closer<S> {
    void close(S shard, String name) throws Exception;
  }

  /** What a call does with shards. */
  public interface Work<S, T, E extends Exception> {
    /** @param shards by name, in the order of the call; they stay open until this returns */
    T with(Map<String, S> shards) throws E, TException;
  }

  private static final int NAMES_SHOWN_MAX = 20;

  private final Opener<S> opener;
  private final Closer<S> closer;
  private final Map<String, Entry<S>> entries = new TreeMap<>();
  /** Shards that are being closed, by name. Calls that came before may still use them. */
  private final Map<String, Entry<S>> closing = new HashMap<>();
  /** Numbers of the calls that have not ended, and the last number. */
  private final TreeSet<Long> calls = new TreeSet<>();
  private long lastCall;

  /** A shard from the first `open` until no call uses it. */
  private static final class Entry<S> {
    final Path path;
    CompletableFuture<OpenedShard<S>> opening;
    /** null while it is being opened. */
    OpenedShard<S> opened;
    int uses;
    /** Number of the last call that came before it was closed. */
    long closedAfter;
    /** When no call that came before uses it, and when it is closed. */
    final CompletableFuture<Void> unused = new CompletableFuture<>();
    final CompletableFuture<Void> closed = new CompletableFuture<>();

    Entry(Path path) {
      this.path = path;
    }
  }

  /** Closes a shard with its own `close` if it is AutoCloseable. */
  public Content(Opener<S> opener) {
    this(
        opener,
        (shard, name) -> {
          if (shard instanceof AutoCloseable) ((AutoCloseable) shard).close();
        });
  }

  public Content(Opener<S> opener, Closer<S> closer) {
    this.opener = opener;
    this.closer = closer;
  }

  /** Names of the open shards, in order. */
  public synchronized List<String> names() {
    List<String> names = new ArrayList<>();
    entries.forEach((name, entry) -> { if (entry.opened != null) names.add(name); });
    return names;
  }

  /**
   * Calls `work` with open shards by name. They stay open until it returns.
   *
   * @param names the shards of the call; null or empty means all that are open
   * @throws KatamariException NO_POOL when one of them is not open
   */
  public <T, E extends Exception> T use(List<String> names, Work<S, T, E> work) throws E, TException {
    Map<String, Entry<S>> used = take(names);
    try {
      Map<String, S> shards = new LinkedHashMap<>();
      used.forEach((name, entry) -> shards.put(name, entry.opened.shard()));
      return work.with(Collections.unmodifiableMap(shards));
    } finally {
      for (Entry<S> entry : used.values()) release(entry);
    }
  }

  private synchronized Map<String, Entry<S>> take(List<String> names) throws KatamariException {
    CallContext context = CallContext.currentOrNull();
    long call = context == null ? Long.MAX_VALUE : context.number();
    Map<String, Entry<S>> used = new LinkedHashMap<>();
    for (String name : names == null || names.isEmpty() ? names() : names) {
      Entry<S> entry = entries.get(name);
      if (entry == null || entry.opened == null) entry = closing.get(name);
      boolean isUsable = entry != null && entry.opened != null && (entries.get(name) == entry || call <= entry.closedAfter);
      if (!isUsable)
        throw KatamariException.notRun(
            KatamariException.Code.NO_POOL, "Shard " + name + " is not open here; open are " + listed());
      used.put(name, entry);
    }
    for (Entry<S> entry : used.values()) entry.uses++;
    return used;
  }

  private void release(Entry<S> entry) {
    synchronized (this) {
      entry.uses--;
    }
    completeUnused();
  }

  /** Numbers a call that has come. Calls of before a `close` may use the shard, even if they start after it. */
  synchronized long begin() {
    calls.add(++lastCall);
    return lastCall;
  }

  void end(long call) {
    synchronized (this) {
      calls.remove(call);
    }
    completeUnused();
  }

  private void completeUnused() {
    List<Entry<S>> unused = new ArrayList<>();
    synchronized (this) {
      for (Entry<S> entry : closing.values())
        if (entry.uses == 0 && (calls.isEmpty() || calls.first() > entry.closedAfter)) unused.add(entry);
    }
    for (Entry<S> entry : unused) entry.unused.complete(null);
  }

  private String listed() {
    List<String> names = names();
    if (names.isEmpty()) return "none";
    int shown = Math.min(names.size(), NAMES_SHOWN_MAX);
    String others = names.size() > shown ? " and " + (names.size() - shown) + " more" : "";
    return String.join(", ", names.subList(0, shown)) + others;
  }

  /** Opens a shard on a thread of the executor. Asked again, answers with the same facts. */
  CompletableFuture<OpenedShard<S>> open(String name, Path path, Executor executor) {
    Entry<S> entry;
    synchronized (this) {
      Entry<S> before = closing.get(name);
      if (before != null)
        return before.closed.handle((closed, failed) -> null).thenCompose(nothing -> open(name, path, executor));
      Entry<S> known = entries.get(name);
      if (known != null && known.path.equals(path)) return known.opening;
      if (known != null)
        return CompletableFuture.failedFuture(
            new IllegalStateException(name + " is open from " + known.path + "; close it first"));
      entry = new Entry<>(path);
      entry.opening = new CompletableFuture<>();
      entries.put(name, entry);
    }
    executor.execute(() -> open(name, entry));
    return entry.opening;
  }

  private void open(String name, Entry<S> entry) {
    try {
      OpenedShard<S> opened = opener.open(entry.path, name);
      if (opened == null) throw new NullPointerException("the content server returned null for " + name);
      synchronized (this) {
        entry.opened = opened;
      }
      entry.opening.complete(opened);
    } catch (Throwable refused) {
      synchronized (this) {
        entries.remove(name, entry);
      }
      entry.opening.completeExceptionally(refused);
    }
  }

  /** Closes a shard on a thread of the executor when it is open and no call uses it. */
  CompletableFuture<Void> close(String name, Executor executor) {
    Entry<S> entry;
    synchronized (this) {
      entry = entries.remove(name);
      if (entry == null) {
        Entry<S> before = closing.get(name);
        return before == null ? CompletableFuture.completedFuture(null) : before.closed;
      }
      entry.closedAfter = lastCall;
      closing.put(name, entry);
    }
    entry.opening
        .handle((opened, refused) -> opened)
        .thenCombineAsync(entry.unused, (opened, nothing) -> close(opened, name), executor)
        .whenComplete((nothing, failed) -> endClosing(name, entry, failed));
    completeUnused();
    return entry.closed;
  }

  /** @param opened null if it could not be opened */
  private Void close(OpenedShard<S> opened, String name) {
    try {
      if (opened != null) closer.close(opened.shard(), name);
      return null;
    } catch (Exception failed) {
      throw new CompletionException(failed);
    }
  }

  private void endClosing(String name, Entry<S> entry, Throwable failed) {
    synchronized (this) {
      closing.remove(name);
    }
    if (failed == null) entry.closed.complete(null);
    else entry.closed.completeExceptionally(failed);
  }
}
