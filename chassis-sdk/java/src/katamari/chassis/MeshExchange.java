// The transport of a generated client: buffers the call that is written, sends it to the mesh, then buffers the reply.

package katamari.chassis;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import org.apache.thrift.TConfiguration;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.transport.TMemoryInputTransport;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.TTransportException;

final class MeshExchange extends TTransport {
  /** Timeout of a call that is made outside of a handler. */
  private static final long TIMEOUT_OUTSIDE_NS = TimeUnit.SECONDS.toNanos(60);
  /** Time after the deadline for the error reply of the mesh, which is more specific. */
  private static final long REPLY_GRACE_NS = TimeUnit.MILLISECONDS.toNanos(200);

  private final CallOptions options;
  private final Limits limits = Limits.ofMesh();
  private final TConfiguration configuration =
      new TConfiguration(limits.keptBytesMax(), limits.keptBytesMax(), limits.nestingMax() + 1);
  private String service = "";
  private ByteArrayOutputStream out = new ByteArrayOutputStream();
  private TMemoryInputTransport in;
  private MeshConnection connection;
  private TMessage message;
  private long deadlineNs;

  MeshExchange(CallOptions options) {
    this.options = options;
  }

  void setService(String name) {
    service = name;
  }

  /** Starts a call. Drops the state of an earlier call that did not finish. */
  void begin(TMessage call) throws KatamariException {
    discard();
    out = new ByteArrayOutputStream();
    message = call;
    CallContext current = CallContext.currentOrNull();
    long now = System.nanoTime();
    long leftNs = current == null ? TIMEOUT_OUTSIDE_NS : current.deadlineNanos() - now;
    if (options.timeout != null) leftNs = Math.min(leftNs, options.timeout.toNanos());
    deadlineNs = now + leftNs;
    if (leftNs <= 0)
      throw KatamariException.notRun(KatamariException.Code.TIMEOUT, "Cannot call " + label() + ": no time is left");
  }

  void writeContext() {
    String resource = System.getenv("KATAMARI_RESOURCE");
    CallContext current = CallContext.currentOrNull();
    Fields.Writer context = new Fields.Writer();
    context.i64(1, Math.max(0, TimeUnit.NANOSECONDS.toMicros(deadlineNs - System.nanoTime())));
    context.text(2, service);
    if (!options.version.isEmpty()) context.text(3, options.version);
    if (current != null && !current.traceparent().isEmpty()) context.text(8, current.traceparent());
    if (current != null && !current.tracestate().isEmpty()) context.text(9, current.tracestate());
    context.text(10, resource == null ? "chassis" : "chassis " + resource);
    if (options.minCoverage != null) context.real(18, options.minCoverage);
    Message.writeContext(out, context.bytes());
  }

  /** Sends the call. */
  void send() throws KatamariException {
    byte[] bytes = out.toByteArray();
    out = new ByteArrayOutputStream();
    if (bytes.length > limits.keptBytesMax()) {
      String why = ": its arguments have " + bytes.length + " bytes, limit is " + limits.frameBytesMax();
      throw notRun(KatamariException.Code.TOO_LARGE, "Cannot call " + label() + why + "; send less at once");
    }
    connect();
    ByteBuffer frame = ByteBuffer.allocate(4 + bytes.length).putInt(bytes.length).put(bytes).flip();
    try {
      connection.send(frame);
    } catch (IOException error) {
      throw failed(KatamariException.Code.RESOURCE_FAILED, label() + " could not be sent to the mesh: " + why(error));
    }
    if (message.type == TMessageType.ONEWAY) giveBack();
  }

  /** Waits for the reply, which the generated code then reads. */
  void receive() throws KatamariException, TTransportException {
    if (connection == null) throw new IllegalStateException("a client receives after it has sent");
    byte[] frame;
    KatamariException failure = null;
    ReplyInfo info = null;
    try {
      FrameReader.Frame received = connection.receive(deadlineNs + REPLY_GRACE_NS);
      frame = received.bytes();
      if (received.isOversized()) {
        String why = " is beyond the limits: it has " + received.size() + " bytes, limit is " + limits.frameBytesMax();
        throw failed(KatamariException.Code.TOO_LARGE, "The reply to " + label() + why);
      }
      Message head = headOf(frame);
      int context = head.contextStart(frame);
      if (head.type() == TMessageType.EXCEPTION && context >= 0) failure = KatamariException.read(frame, context);
      if (head.type() == TMessageType.REPLY && options.onReply != null) info = ReplyInfo.read(frame, context);
    } catch (MalformedException.TooDeep error) {
      throw failed(KatamariException.Code.TOO_LARGE, "The reply to " + label() + " is beyond the limits: " + why(error));
    } catch (MalformedException error) {
      throw failed(
          KatamariException.Code.RESOURCE_FAILED, "The reply to " + label() + " cannot be decoded: " + why(error));
    } catch (SocketTimeoutException late) {
      throw failed(KatamariException.Code.TIMEOUT, label() + " got no reply before its deadline");
    } catch (IOException error) {
      throw failed(
          KatamariException.Code.RESOURCE_FAILED,
          "The connection to the mesh failed before " + label() + " got a reply: " + why(error));
    }
    giveBack();
    if (failure != null) throw failure;
    in = new TMemoryInputTransport(configuration, frame);
    if (info != null) options.onReply.accept(info);
  }

  private void connect() throws KatamariException {
    String address = System.getenv("KATAMARI_MESH");
    if (address == null || address.isEmpty())
      throw notRun(
          KatamariException.Code.NO_POOL,
          "KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services");
    try {
      connection = MeshConnection.take(address, limits, deadlineNs);
    } catch (IOException | IllegalArgumentException error) {
      throw notRun(
          KatamariException.Code.RESOURCE_FAILED, "The mesh at " + address + " cannot be reached: " + why(error));
    }
  }

  /** Returns the head of a reply, whose body is then one whole struct. */
  private Message headOf(byte[] frame) throws MalformedException {
    Message head = Message.read(frame);
    if (head.sequenceId() != message.seqid)
      throw new MalformedException("it has sequence id " + head.sequenceId() + ", expected " + message.seqid);
    StructCheck.check(frame, head.bodyStart(), limits.nestingMax());
    return head;
  }

  private KatamariException notRun(KatamariException.Code code, String why) {
    discard();
    return KatamariException.notRun(code, why);
  }

  private KatamariException failed(KatamariException.Code code, String why) {
    discard();
    return new KatamariException(code, why);
  }

  private static String why(Exception error) {
    return error.getMessage() == null ? error.toString() : error.getMessage();
  }

  private String label() {
    return service + "." + message.name;
  }

  private void giveBack() {
    if (connection != null) connection.giveBack();
    connection = null;
  }

  private void discard() {
    if (connection != null) connection.close();
    connection = null;
  }

  @Override
  public void write(byte[] bytes, int at, int length) {
    out.write(bytes, at, length);
  }

  @Override
  public int read(byte[] into, int at, int length) throws TTransportException {
    return in.read(into, at, length);
  }

  @Override
  public byte[] getBuffer() {
    return in.getBuffer();
  }

  @Override
  public int getBufferPosition() {
    return in.getBufferPosition();
  }

  @Override
  public int getBytesRemainingInBuffer() {
    return in == null ? -1 : in.getBytesRemainingInBuffer();
  }

  @Override
  public void consumeBuffer(int length) {
    in.consumeBuffer(length);
  }

  @Override
  public TConfiguration getConfiguration() {
    return configuration;
  }

  @Override
  public void updateKnownMessageSize(long size) {
    // The reply is here as a whole.
  }

  @Override
  public void checkReadBytesAvailable(long bytes) throws TTransportException {
    in.checkReadBytesAvailable(bytes);
  }

  @Override
  public boolean isOpen() {
    return true;
  }

  @Override
  public void open() {
    // Each call takes a connection.
  }

  @Override
  public void close() {
    discard();
  }
}
