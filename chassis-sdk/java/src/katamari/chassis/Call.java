// One call, from its frame to its reply.

package katamari.chassis;

import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TType;

/** A received call. Call `answer` exactly once. */
final class Call {
  /** Timeout of a call without a deadline, from a client that is not the mesh. */
  private static final long TIMEOUT_WITHOUT_MESH_NS = TimeUnit.SECONDS.toNanos(60);
  /** A longer timeout must not overflow the clock. */
  private static final long TIMEOUT_MAX_US = TimeUnit.DAYS.toMicros(365);

  private final Connection connection;
  private final Message head;
  private final byte[] frame;
  private final boolean isOfMesh;
  private final String method;
  private String service;
  /** Offset of the arguments in the frame, after the context. */
  private int start;

  /** Number among the calls of a content server. */
  long number;

  // The context of the call. Absent parts are "", 0 or empty.
  long deadlineNs = System.nanoTime() + TIMEOUT_WITHOUT_MESH_NS;
  String key = "";
  String traceparent = "";
  String tracestate = "";
  String caller = "a client that is not the mesh";
  int attempt;
  Map<String, String> headers = Map.of();
  private String identityName = "anonymous";
  private List<String> identityRoles = List.of();
  private String identityHow = "anonymous";

  private Call(Connection connection, byte[] frame, Message head) {
    this.connection = connection;
    this.head = head;
    this.frame = frame;
    start = head.bodyStart();
    isOfMesh = head.contextStart(frame) >= 0;
    int colon = head.name().lastIndexOf(':');
    method = head.name().substring(colon + 1);
    String target = colon < 0 ? "" : head.name().substring(0, colon);
    int at = target.indexOf('@');
    service = at < 0 ? target : target.substring(0, at);
  }

  /** Returns a call that is refused: its arguments and its context are not read. */
  static Call ofHead(Connection connection, byte[] frame, Message head) {
    return new Call(connection, frame, head);
  }

  /** @param frame has passed StructCheck */
  static Call read(Connection connection, byte[] frame, Message head) throws MalformedException {
    Call call = new Call(connection, frame, head);
    if (call.isOfMesh) call.readContext(head.contextStart(frame));
    return call;
  }

  /** Whether it came with a context. Then its reply may have one too. */
  boolean isOfMesh() {
    return isOfMesh;
  }

  /** The service that it is for; "" if the caller did not say. */
  String service() {
    return service;
  }

  String method() {
    return method;
  }

  byte[] frame() {
    return frame;
  }

  int start() {
    return start;
  }

  CallContext.Identity identity() {
    return new CallContext.Identity(identityName, List.copyOf(identityRoles), identityHow);
  }

  boolean isAbandoned() {
    return connection.isGone() || isLate();
  }

  boolean isLate() {
    return System.nanoTime() - deadlineNs >= 0;
  }

  /** @param wantsToRetire whether this process asks to be replaced after the reply */
  void answer(Reply reply, boolean wantsToRetire) {
    // The mesh sends oneway calls as ordinary calls, to learn when they end. Plain clients expect no reply to one.
    if (head.type() == TMessageType.ONEWAY) {
      connection.endCall(null);
      return;
    }
    byte[] context = isOfMesh && (wantsToRetire || reply.error() != null) ? contextOf(reply, wantsToRetire) : null;
    byte type = reply.isException() ? TMessageType.EXCEPTION : TMessageType.REPLY;
    connection.endCall(Message.framed(type, method, head.sequenceId(), context, reply.body(), reply.bytes()));
  }

  private static byte[] contextOf(Reply reply, boolean wantsToRetire) {
    Fields.Writer context = new Fields.Writer();
    if (reply.error() != null) reply.error().write(context);
    if (wantsToRetire) context.bool(11, true);
    return context.bytes();
  }

  private void readContext(int at) throws MalformedException {
    String serviceOfContext = "";
    Fields fields = new Fields(frame, at);
    while (fields.next()) {
      if (fields.is(1, TType.I64))
        deadlineNs =
            System.nanoTime() + TimeUnit.MICROSECONDS.toNanos(Math.min(fields.i64(), TIMEOUT_MAX_US));
      else if (fields.is(2, TType.STRING)) serviceOfContext = fields.text();
      else if (fields.is(7, TType.STRING)) key = fields.text();
      else if (fields.is(8, TType.STRING)) traceparent = fields.text();
      else if (fields.is(9, TType.STRING)) tracestate = fields.text();
      else if (fields.is(10, TType.STRING)) caller = fields.text();
      else if (fields.is(11, TType.I32)) attempt = fields.i32();
      else if (fields.is(13, TType.MAP)) headers = fields.textMap();
      else if (fields.is(14, TType.STRING)) identityName = fields.text();
      else if (fields.is(15, TType.LIST)) identityRoles = fields.texts();
      else if (fields.is(16, TType.STRING)) identityHow = fields.text();
    }
    start = fields.position();
    if (service.isEmpty()) service = serviceOfContext;
  }
}
