// The shards that a content server has open. The mesh says which shards to open and close; handlers use them through
// `use`, and a shard is closed only when no call uses it. No thread waits for another: what has to wait is a future.

package katamari.chassis;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
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
  /** Numbers of calls that have come and used no shard yet, and the last number. */
  private final TreeSet<Long> notStarted = new TreeSet<>();
  private long lastCall;
  /** The shards that calls use, by their numbers. */
  private final Map<Long, Set<Entry<S>>> usesOfCalls = new HashMap<>();

  /** A shard from the first `open` until no call uses it. */
  private static final class Entry<S> {
    final Path path;
    final CompletableFuture<OpenedShard<S>> opening = new CompletableFuture<>();
    /** When the callers of `open` have their answer, so that the shard may be closed. */
    final CompletableFuture<Void> settled = new CompletableFuture<>();
    /** null while it is being opened. */
    OpenedShard<S> opened;
    int uses;
    /** Number of the last call that came before it was closed. */
    long closedAfter;
    /** When no call that came before uses it, and when it is closed. */
    boolean isUnused;
    final CompletableFuture<Void> unused = new CompletableFuture<>();
    final CompletableFuture<Void> closed = new CompletableFuture<>();
    /** When the callers of `close` have their answer, so that the shard may be opened again. */
    final CompletableFuture<Void> gone = new CompletableFuture<>();

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
   * Calls `work` with open shards by name. They stay open until it returns; in a handler, until the call is answered.
   *
   * @param names the shards of the call; null or empty means all that are open
   * @throws ShardNotOpenException when one of them is not open
   */
  public <T, E extends Exception> T use(List<String> names, Work<S, T, E> work) throws E, TException {
    CallContext context = CallContext.currentOrNull();
    Call call = context == null ? null : context.call();
    Map<String, Entry<S>> used = take(names, call);
    try {
      Map<String, S> shards = new LinkedHashMap<>();
      used.forEach((name, entry) -> shards.put(name, entry.opened.shard()));
      return work.with(Collections.unmodifiableMap(shards));
    } finally {
      if (call == null) release(used.values());
    }
  }

  /** @param call null outside of a handler. The shards of a call stay in use until it is answered. */
  private synchronized Map<String, Entry<S>> take(List<String> names, Call call) throws ShardNotOpenException {
    Map<String, Entry<S>> used = new LinkedHashMap<>();
    for (String name : names == null || names.isEmpty() ? names() : names) {
      Entry<S> entry = entries.get(name);
      if (entry == null && call != null) entry = closingFor(name, call);
      if (entry == null || entry.opened == null)
        throw new ShardNotOpenException("Shard " + name + " is not open here; open are " + listed());
      used.put(name, entry);
    }
    if (call == null) {
      for (Entry<S> entry : used.values()) entry.uses++;
      return used;
    }
    Set<Entry<S>> ofCall = usesOfCalls.computeIfAbsent(call.number, number -> new HashSet<>());
    for (Entry<S> entry : used.values()) if (ofCall.add(entry)) entry.uses++;
    notStarted.remove(call.number);
    return used;
  }

  private Entry<S> closingFor(String name, Call call) {
    Entry<S> entry = closing.get(name);
    return entry != null && !entry.isUnused && call.number <= entry.closedAfter ? entry : null;
  }

  private void release(Collection<Entry<S>> used) {
    synchronized (this) {
      for (Entry<S> entry : used) entry.uses--;
    }
    completeUnused();
  }

  /** Numbers a call that has come. Calls of before a `close` may use the shard, even if they start after it. */
  synchronized long begin() {
    notStarted.add(++lastCall);
    return lastCall;
  }

  /** Ends a call that has been answered. */
  void end(long call) {
    Set<Entry<S>> used;
    synchronized (this) {
      notStarted.remove(call);
      used = usesOfCalls.remove(call);
    }
    release(used == null ? Set.of() : used);
  }

  private void completeUnused() {
    List<Entry<S>> unused = new ArrayList<>();
    synchronized (this) {
      for (Entry<S> entry : closing.values()) {
        boolean mayBeUsed = !notStarted.isEmpty() && notStarted.first() <= entry.closedAfter;
        if (entry.uses > 0 || mayBeUsed) continue;
        entry.isUnused = true;
        unused.add(entry);
      }
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
        return before.gone.thenCompose(nothing -> open(name, path, executor));
      Entry<S> known = entries.get(name);
      if (known != null && known.path.equals(path)) return known.opening;
      if (known != null)
        return CompletableFuture.failedFuture(
            new IllegalStateException(name + " is open from " + known.path + "; close it first"));
      entry = new Entry<>(path);
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
    } finally {
      entry.settled.complete(null);
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
    entry.settled
        .thenCombineAsync(entry.unused, (settled, unused) -> close(entry.opened, name), executor)
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
    entry.gone.complete(null);
  }
}
