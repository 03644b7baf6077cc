// The context of the call that a handler works on. Handlers keep the signatures of the generated code, so they get it
// from the thread that runs them.

package katamari.chassis;

import java.time.Duration;
import java.util.List;
import java.util.Map;

/** Facts about one call. Absent ones are "", 0 or empty. A thread that a handler starts may use the object too. */
public final class CallContext {
  /**
   * Who makes a call, as proved to the mesh.
   *
   * @param how anonymous, mtls, token, jwt, chassis or mesh
   */
  public record Identity(String name, List<String> roles, String how) {}

  private static final ThreadLocal<CallContext> CURRENT = new ThreadLocal<>();

  private final Call call;
  private volatile boolean isRetiring;

  CallContext(Call call) {
    this.call = call;
  }

  /**
   * Returns the context of the call that this thread works on.
   *
   * @throws IllegalStateException outside of a handler
   */
  public static CallContext current() {
    CallContext context = CURRENT.get();
    if (context != null) return context;
    throw new IllegalStateException(
        "CallContext.current() was called outside of a call: use it in the thread that runs a handler");
  }

  /** Returns the context of this thread; null outside of a handler. */
  static CallContext currentOrNull() {
    return CURRENT.get();
  }

  /** @param context null when the call has ended */
  static void enter(CallContext context) {
    if (context == null) CURRENT.remove();
    else CURRENT.set(context);
  }

  public String method() {
    return call.method();
  }

  /** Deadline of the call on the clock of `System.nanoTime()`. */
  public long deadlineNanos() {
    return call.deadlineNs;
  }

  /**
   * Time until the deadline; zero after it. The mesh treats a handler that runs longer as hung, and kills its process
   * one second later.
   */
  public Duration timeLeft() {
    return Duration.ofNanos(Math.max(0, call.deadlineNs - System.nanoTime()));
  }

  /** Whether the caller no longer waits: the deadline has passed, or the connection has closed. */
  public boolean isAbandoned() {
    return call.isAbandoned();
  }

  /** Caller, for logs: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`. */
  public String caller() {
    return call.caller;
  }

  public Identity identity() {
    return call.identity();
  }

  /** Sticky key of the call. */
  public String key() {
    return call.key;
  }

  /** 0 for the first try, more if the mesh retries an idempotent call. */
  public int attempt() {
    return call.attempt;
  }

  /** W3C trace context. */
  public String traceparent() {
    return call.traceparent;
  }

  public String tracestate() {
    return call.tracestate;
  }

  /**
   * Transport headers of the client that the mesh does not use; names of HTTP headers are in lower case. The lone
   * surrogate 0xDC00 + byte stands for each byte of a value that is not UTF-8.
   */
  public Map<String, String> headers() {
    return call.headers;
  }

  /** Makes the process exit after the reply to this call; the mesh replaces it. For code that must not be reused. */
  public void retireAfterReply() {
    isRetiring = true;
  }

  Call call() {
    return call;
  }

  boolean isRetiring() {
    return isRetiring;
  }
}
