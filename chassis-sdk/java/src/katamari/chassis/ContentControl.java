// Serves `katamari.Content` (idl/content.thrift) to the manager. Shards are opened and closed on threads of their own,
// so that pings are answered meanwhile.

package katamari.chassis;

import java.nio.file.Path;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import org.apache.thrift.protocol.TType;

final class ContentControl<S> {
  static final String NAME = "katamari.Content";
  private static final int THREADS_MAX = 4;
  private static final long IDLE_S = 10;

  private final Content<S> content;
  private final ThreadPoolExecutor executor;

  ContentControl(Content<S> content) {
    this.content = content;
    int threads = Math.min(THREADS_MAX, Runtime.getRuntime().availableProcessors());
    // The calls in flight of the connections limit the queue.
    executor =
        new ThreadPoolExecutor(
            threads,
            threads,
            IDLE_S,
            TimeUnit.SECONDS,
            new LinkedBlockingQueue<>(),
            work -> {
              Thread thread = new Thread(work, "katamari-content");
              thread.setDaemon(true);
              return thread;
            });
    executor.allowCoreThreadTimeOut(true);
  }

  /** Notes a call of the service itself. Every call that begins must end. */
  void begin(Call call) {
    call.number = content.begin();
  }

  void end(Call call) {
    content.end(call.number);
  }

  void serve(Call call) {
    try {
      String shard = argument(call, 1);
      switch (call.method()) {
        case "open":
          content.open(shard, Path.of(argument(call, 2)), executor).whenComplete((o, e) -> call.answer(opened(o, e), false));
          return;
        case "close":
          CompletableFuture<Void> closed = content.close(shard, executor);
          closed.whenComplete((nothing, failed) -> call.answer(failed == null ? Reply.VOID : failure(failed), false));
          return;
        case "shards":
          call.answer(Reply.of(new Fields.Writer().texts(0, content.names()).bytes()), false);
          return;
        default:
          String why = NAME + " has no method \"" + call.method() + "\"; it has open, close, shards";
          call.answer(Reply.refused(new KatamariException(KatamariException.Code.NO_POOL, why)), false);
      }
    } catch (MalformedException | IllegalArgumentException error) {
      String why = "The arguments of " + NAME + "." + call.method() + " cannot be used: " + error.getMessage();
      call.answer(Reply.refused(new KatamariException(KatamariException.Code.BAD_REQUEST, why)), false);
    }
  }

  private static String argument(Call call, int id) throws MalformedException {
    String value = "";
    Fields fields = new Fields(call.frame(), call.start());
    while (fields.next()) if (fields.is(id, TType.STRING)) value = fields.text();
    return value;
  }

  private static Reply opened(OpenedShard<?> opened, Throwable failed) {
    if (failed == null) {
      byte[] facts = new Fields.Writer().i64(1, opened.entries()).textMap(2, opened.facts()).bytes();
      return Reply.of(new Fields.Writer().struct(0, facts).bytes());
    }
    Throwable error = causeOf(failed);
    Log.warning("refused a shard: " + error);
    boolean isDamaged = error instanceof DamagedShardException;
    byte[] refused = new Fields.Writer().text(1, messageOf(error)).bool(2, isDamaged).bytes();
    return Reply.of(new Fields.Writer().struct(1, refused).bytes());
  }

  private static Reply failure(Throwable failed) {
    Throwable error = causeOf(failed);
    Log.error(NAME + ".close failed", error);
    return Reply.failed(NAME + ".close failed: " + messageOf(error));
  }

  private static Throwable causeOf(Throwable failed) {
    return failed instanceof CompletionException && failed.getCause() != null ? failed.getCause() : failed;
  }

  private static String messageOf(Throwable error) {
    String message = error.getMessage();
    return message == null || message.isEmpty() ? error.getClass().getSimpleName() : message;
  }
}
