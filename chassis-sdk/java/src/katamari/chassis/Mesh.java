// Calls from handlers to other services. A generated client sends its messages to the mesh at KATAMARI_MESH, preceded
// by a context with the remaining time and the trace of the current call.

package katamari.chassis;

import java.time.Duration;
import java.util.function.Function;
import org.apache.thrift.TException;
import org.apache.thrift.TServiceClient;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TProtocol;

/**
 * Makes clients of other services: `Mesh.client(Speller.Client::new).correct("hte")`. A client is cheap. Only one
 * thread may use it at a time, as any generated client in Java.
 */
public final class Mesh {
  private Mesh() {}

  /**
   * Returns a client of another service. A call ends at the deadline of the call that the handler works on, or after
   * 60 s outside of a handler. It throws the declared exceptions of its method, KatamariException if the mesh refused
   * or failed it, and TApplicationException if the other service failed.
   */
  public static <C extends TServiceClient> C client(Function<TProtocol, C> client) {
    return client(client, new CallOptions());
  }

  /**
   * Returns a client of another service.
   *
   * @param version exact, or a SemVer range; "" lets the mesh choose
   * @param timeout of each call, if it ends before the deadline of the current call; null for none
   */
  public static <C extends TServiceClient> C client(Function<TProtocol, C> client, String version, Duration timeout) {
    return client(client, new CallOptions().version(version).timeout(timeout));
  }

  /** Returns a client of another service. The options must not change any more. */
  public static <C extends TServiceClient> C client(Function<TProtocol, C> client, CallOptions options) {
    MeshExchange exchange = new MeshExchange(options);
    C made = client.apply(new ContextProtocol(exchange));
    exchange.setService(options.service.isEmpty() ? Service.nameOf(made.getClass()) : options.service);
    return made;
  }

  /** Puts a context between the head of a call and its arguments. */
  private static final class ContextProtocol extends StrictProtocol {
    private final MeshExchange exchange;

    ContextProtocol(MeshExchange exchange) {
      super(exchange);
      this.exchange = exchange;
    }

    @Override
    public void writeMessageBegin(TMessage message) throws TException {
      exchange.begin(message);
      super.writeMessageBegin(message);
      exchange.writeContext();
    }

    /** Sends the call here, because `flush` of a transport cannot throw the errors of the mesh. */
    @Override
    public void writeMessageEnd() throws TException {
      super.writeMessageEnd();
      exchange.send();
    }

    @Override
    public TMessage readMessageBegin() throws TException {
      exchange.receive();
      return super.readMessageBegin();
    }
  }
}
