// Runs your handler as a chassis, one process of the mesh. It listens at KATAMARI_LISTEN, serves its own service and
// the control services, and exits when its resource manager does. Without KATAMARI_LISTEN, it is a plain framed Thrift
// server on 127.0.0.1:9095.
//
// Threads: each connection has a thread that reads it and answers the control service at once, even while handlers
// run. With concurrency 1, handlers run in the thread that called `serve`. With N, they run in N threads.

package katamari.chassis;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.regex.Pattern;
import org.apache.thrift.TBaseProcessor;
import sun.misc.Signal;

/** A chassis: `Chassis.serve(new ShopHandler(), Shop.Processor::new, new Options("shop.thrift", "1.0.0"))`. */
public final class Chassis {
  static final String VERSION = "0.1.0";
  private static final String CONTROL = "katamari.Chassis";
  private static final String LISTEN_BY_HAND = "tcp:127.0.0.1:9095";
  private static final int EX_CONFIG = 78;
  private static final Pattern SEMVER =
      Pattern.compile("(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?");

  private final Service<?> service;
  private final String id;
  private final int concurrency;
  private final Reply described;
  private final ContentControl<?> content;
  private final Limits limits = Limits.ofMesh();
  /** Calls that wait for a thread. In a mesh it is empty: the mesh sends at most `concurrency` calls at a time. */
  private final LinkedBlockingQueue<Work> waiting = new LinkedBlockingQueue<>();
  private final AtomicBoolean isDraining = new AtomicBoolean();
  private Server server;

  /**
   * What a thread that runs handlers takes from the queue.
   *
   * @param call null for the end
   */
  private record Work(Call call) {}

  private <H> Chassis(H handler, Function<H, ? extends TBaseProcessor<H>> processor, Options options) {
    service = new Service<>(options.service, handler, processor, limits);
    concurrency = concurrencyOf(options);
    if (!SEMVER.matcher(options.version).matches())
      throw new IllegalArgumentException("the version is \"" + options.version + "\", expected SemVer such as 1.2.0");
    id = service.name() + "@" + options.version;
    content = options.content == null ? null : new ContentControl<>(options.content);
    described = describe(options, Idl.read(options, service.name()));
  }

  /**
   * Serves calls until the chassis has drained, then returns. The mesh, SIGTERM, Ctrl-C, or a handler that calls
   * `retireAfterReply` starts the drain.
   *
   * <p>In a process that a mesh has started, options that do not match print one line and exit with status 78: the
   * mesh starts no other copy until a file has changed.
   *
   * @param handler implements the `Iface` of the generated service
   * @param processor the constructor of the generated processor: `Shop.Processor::new`
   * @throws IllegalArgumentException if the options do not match the service or the IDL
   * @throws IOException if the address is not available
   */
  public static <H> void serve(H handler, Function<H, ? extends TBaseProcessor<H>> processor, Options options)
      throws IOException, InterruptedException {
    Chassis chassis;
    try {
      chassis = new Chassis(handler, processor, options);
    } catch (IllegalArgumentException error) {
      if (!hasLifeline()) throw error;
      Path idl = Path.of(options.idl).toAbsolutePath();
      System.err.println("This chassis cannot start with " + idl + ": " + error.getMessage());
      System.exit(EX_CONFIG);
      throw error;
    }
    chassis.run();
  }

  private void run() throws IOException, InterruptedException {
    String resource = System.getenv().getOrDefault("KATAMARI_RESOURCE", id);
    Log.setUp(resource);
    if (hasLifeline()) exitWithManager();
    // The signal handlers come before listening, so that every process that takes calls can be drained.
    for (String signal : new String[] {"TERM", "INT"}) Signal.handle(new Signal(signal), ignored -> drain());
    String listen = System.getenv("KATAMARI_LISTEN");
    server = new Server(listen == null ? LISTEN_BY_HAND : listen, limits, this::take);
    if (listen == null) System.out.println(resource + " listens on " + server.address() + " (framed Thrift)");
    server.start();
    Thread[] others = new Thread[concurrency == 1 ? 0 : concurrency];
    for (int i = 0; i < others.length; i++) others[i] = Threads.start("katamari-" + i, this::work);
    if (concurrency == 1) work();
    for (Thread other : others) other.join();
  }

  /** Starts a graceful shutdown: the calls in flight finish, then `serve` returns. */
  private void drain() {
    if (!isDraining.compareAndSet(false, true)) return;
    Threads.start(
        "katamari-drain",
        () -> {
          if (server != null) server.drain();
          for (int i = 0; i < concurrency; i++) waiting.add(new Work(null));
        });
  }

  /** Takes a call in the thread of its connection. */
  private void take(Call call) {
    if (call.service().equals(CONTROL)) {
      control(call);
    } else if (content != null && call.service().equals(ContentControl.NAME)) {
      content.serve(call);
    } else if (call.service().isEmpty() || call.service().equals(service.name())) {
      if (content != null) content.begin(call);
      waiting.add(new Work(call));
    } else {
      refuse(call, KatamariException.Code.NO_POOL, "This is " + id + "; it does not offer " + call.service());
    }
  }

  private void control(Call call) {
    switch (call.method()) {
      case "describe":
        call.answer(described, false);
        break;
      case "ping":
        call.answer(Reply.VOID, false);
        break;
      case "drain":
        call.answer(Reply.VOID, false);
        drain();
        break;
      default:
        String why = CONTROL + " has no method \"" + call.method() + "\"; it has describe, ping, drain";
        refuse(call, KatamariException.Code.NO_POOL, why);
    }
  }

  private static void refuse(Call call, KatamariException.Code code, String why) {
    call.answer(Reply.refused(KatamariException.notRun(code, why)), false);
  }

  /** Runs calls one after the other until the chassis has drained. */
  private void work() throws InterruptedException {
    for (Work next = waiting.take(); next.call() != null; next = waiting.take()) {
      try {
        serve(next.call());
      } finally {
        if (content != null) content.end(next.call());
      }
      // A handler may have left its thread interrupted.
      Thread.interrupted();
    }
  }

  private void serve(Call call) {
    if (call.isLate()) {
      String why = "The deadline of " + call.method() + " passed before this copy started it";
      refuse(call, KatamariException.Code.TIMEOUT, why);
      return;
    }
    CallContext context = new CallContext(call);
    CallContext.enter(context);
    Reply reply;
    try {
      reply = service.run(call);
    } catch (KatamariException refused) {
      reply = Reply.refused(refused);
    } finally {
      CallContext.enter(null);
    }
    call.answer(reply, context.isRetiring());
    if (context.isRetiring()) drain();
  }

  private Reply describe(Options options, Idl idl) {
    Fields.Writer details = new Fields.Writer();
    details.text(1, service.name()).text(2, options.version).texts(3, options.roles).texts(4, options.tags);
    details.textMap(5, options.more).text(6, idl.main()).textMap(7, idl.files()).i32(8, concurrency);
    details.text(9, "java " + VERSION + " on " + System.getProperty("java.vm.name") + " "
        + System.getProperty("java.version"));
    if (content != null) details.bool(11, true);
    return Reply.of(new Fields.Writer().struct(0, details.bytes()).bytes());
  }

  /** The concurrency of the deployment takes precedence, because the mesh sends that many calls at once. */
  private static int concurrencyOf(Options options) {
    String set = System.getenv("KATAMARI_CONCURRENCY");
    int concurrency = options.concurrency;
    if (set != null && set.matches("[0-9]{1,6}")) concurrency = Integer.parseInt(set);
    if (concurrency >= 1) return concurrency;
    throw new IllegalArgumentException("concurrency is " + concurrency + "; it must be at least 1");
  }

  private static boolean hasLifeline() {
    return "stdin".equals(System.getenv("KATAMARI_LIFELINE"));
  }

  /** Exits when standard input closes, so that a chassis never outlives its resource manager. */
  private static void exitWithManager() {
    InputStream lifeline = System.in;
    System.setIn(InputStream.nullInputStream());
    Threads.start(
        "katamari-lifeline",
        () -> {
          try {
            byte[] ignored = new byte[4096];
            while (lifeline.read(ignored) >= 0) continue;
          } catch (IOException broken) {
            // As good as closed.
          }
          // At once: handlers may hang, and nobody waits for their replies.
          Runtime.getRuntime().halt(0);
        });
  }
}
