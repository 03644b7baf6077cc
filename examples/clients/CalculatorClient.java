// Calls the Calculator with generated code and the official Java library of Thrift, without Katamari code.
//
//     thrift -r --gen java:generated_annotations=suppress ../calculator.thrift
//     export CLASSPATH=classes:/usr/share/java/thrift.jar:/usr/share/java/slf4j-api.jar
//     javac -d classes CalculatorClient.java gen-java/*/*.java
//     java CalculatorClient [PORT]
//
// Needs a JDK, the Thrift compiler and its Java library (Debian: thrift-compiler, libthrift-java, libslf4j-java).

import org.apache.thrift.TApplicationException;
import org.apache.thrift.TException;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TMultiplexedProtocol;
import org.apache.thrift.transport.TSocket;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.layered.TFramedTransport;
import tutorial.Calculator;
import tutorial.InvalidOperation;
import tutorial.Operation;
import tutorial.Work;

public final class CalculatorClient {
  public static void main(String[] arguments) throws TException {
    int port = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 9090;

    try (TTransport transport = connect(port)) {
      Calculator.Client client = new Calculator.Client(new TBinaryProtocol(transport));
      System.out.println("2 + 40 = " + client.add(2, 40));
      try {
        client.calculate(1, new Work(1, 0, Operation.DIVIDE));
      } catch (InvalidOperation refused) { // declared in the IDL
        System.out.println("1 / 0: " + refused.getWhy());
      }
      try {
        client.add(Integer.MAX_VALUE, 1);
      } catch (TApplicationException error) { // an error of the mesh, or an undeclared error of the handler
        System.out.println("error " + error.getType() + ": " + error.getMessage());
      }
    }

    // Select the service and its version with the multiplexed protocol.
    try (TTransport transport = connect(port)) {
      TMultiplexedProtocol named = new TMultiplexedProtocol(new TBinaryProtocol(transport), "Calculator@^1");
      System.out.println("15 - 10 = " + new Calculator.Client(named).calculate(1, new Work(15, 10, Operation.SUBTRACT)));
    }
  }

  private static TTransport connect(int port) throws TException {
    TSocket socket = new TSocket("127.0.0.1", port);
    // In ms. The mesh has its own timeout, 10 s by default.
    socket.setConnectTimeout(5_000);
    socket.setSocketTimeout(12_000);
    TTransport transport = new TFramedTransport(socket);
    transport.open();
    return transport;
  }
}
