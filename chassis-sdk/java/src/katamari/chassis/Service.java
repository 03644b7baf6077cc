// Joins the generated processor of a service and its handler: decodes arguments, runs the handler and encodes replies.
// It does not use `process`, which replaces every error message by "Internal error". Exceptions that the IDL declares
// are ordinary replies. For any other exception, the caller gets its message and the log gets its stack.

package katamari.chassis;

import java.util.Map;
import java.util.TreeSet;
import java.util.function.Function;
import org.apache.thrift.ProcessFunction;
import org.apache.thrift.TBase;
import org.apache.thrift.TBaseProcessor;
import org.apache.thrift.TConfiguration;
import org.apache.thrift.TException;
import org.apache.thrift.transport.TMemoryBuffer;
import org.apache.thrift.transport.TMemoryInputTransport;
import org.apache.thrift.transport.TTransportException;

@SuppressWarnings("rawtypes")
final class Service<H> {
  private static final int FIRST_BYTES = 512;

  private final String name;
  private final H handler;
  private final Map<String, ProcessFunction<H, ? extends TBase>> functions;
  private final Limits limits;
  private final TConfiguration configuration;

  Service(String name, H handler, Function<H, ? extends TBaseProcessor<H>> processor, Limits limits) {
    this.handler = handler;
    TBaseProcessor<H> made = processor.apply(handler);
    this.name = name.isEmpty() ? nameOf(made.getClass()) : name;
    functions = made.getProcessMapView();
    this.limits = limits;
    // The library counts the bytes of a message itself, and never more than were received.
    int bytes = limits.keptBytesMax();
    configuration = new TConfiguration(bytes, bytes, limits.nestingMax() + 1);
  }

  /** Name in the IDL. */
  String name() {
    return name;
  }

  /** Returns the name of the generated class around a `Processor` or a `Client`, which is that of the service. */
  static String nameOf(Class<?> generated) {
    Class<?> service = generated.getEnclosingClass();
    if (service != null) return service.getSimpleName();
    throw new IllegalArgumentException(
        generated.getName() + " is not generated code, so name its service: `new Options(...).service(\"Shop\")`");
  }

  /**
   * Decodes the arguments, runs the handler and returns the reply.
   *
   * @throws KatamariException if the call cannot be passed to its handler
   */
  Reply run(Call call) throws KatamariException {
    ProcessFunction<H, ? extends TBase> function = functions.get(call.method());
    if (function == null)
      throw new KatamariException(
          KatamariException.Code.NO_POOL,
          name + " has no method \"" + call.method() + "\"; it has "
              + String.join(", ", new TreeSet<>(functions.keySet())));
    return run(function, call);
  }

  private <T extends TBase> Reply run(ProcessFunction<H, T> function, Call call) throws KatamariException {
    String label = name + "." + call.method();
    T arguments = read(function, call, label);
    try {
      TBase result = function.getResult(handler, arguments);
      return result == null ? Reply.VOID : written(result, call);
    } catch (TooLarge tooLarge) {
      String why = label + " failed: its result has more than " + limits.frameBytesMax() + " bytes, the limit; ";
      return Reply.refused(new KatamariException(KatamariException.Code.TOO_LARGE, why + "return less at once"));
    } catch (CallRefusedException refused) {
      return Reply.refused(refused);
    } catch (Throwable error) {
      if (error instanceof VirtualMachineError && !(error instanceof StackOverflowError))
        CallContext.current().retireAfterReply();
      // Such as no_pool of a call to another service: its message says all.
      if (error instanceof KatamariException refused)
        Log.warning(label + " failed: " + refused.code() + ": " + refused.getMessage());
      else Log.error(label + " failed", error);
      String message = error.getMessage();
      boolean hasMessage = message != null && !message.isEmpty();
      return Reply.failed(label + " failed: " + (hasMessage ? message : error.getClass().getSimpleName()));
    }
  }

  private <T extends TBase> T read(ProcessFunction<H, T> function, Call call, String label) throws KatamariException {
    try {
      byte[] frame = call.frame();
      T arguments = function.getEmptyArgsInstance();
      arguments.read(
          new StrictProtocol(
              new TMemoryInputTransport(configuration, frame, call.start(), frame.length - call.start())));
      return arguments;
    } catch (TException | RuntimeException | StackOverflowError error) {
      throw new KatamariException(
          KatamariException.Code.BAD_REQUEST,
          "The arguments of " + label + " do not match its interface: " + error.getMessage());
    }
  }

  @SuppressWarnings("unchecked")
  private Reply written(TBase result, Call call) throws TException {
    Sink sink = new Sink(limits.frameBytesMax() - Message.HEAD_BYTES - call.method().length());
    result.write(new StrictProtocol(sink));
    if (sink.length() == 1 && result.fieldForId(0) != null)
      throw new TException("it returned null, but the IDL declares a result");
    return new Reply(false, sink.getArray(), sink.length(), null);
  }

  /** A result above the limit of a message. */
  private static final class TooLarge extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  /** Memory that takes no more than a message. */
  private static final class Sink extends TMemoryBuffer {
    private final int bytesMax;

    Sink(int bytesMax) throws TTransportException {
      super(FIRST_BYTES);
      this.bytesMax = bytesMax;
    }

    @Override
    public void write(byte[] bytes, int at, int length) {
      if (length() + (long) length > bytesMax) throw new TooLarge();
      super.write(bytes, at, length);
    }
  }
}
