// Calls the Calculator with generated code and the official C++ library of Thrift, without Katamari code.
//
//     thrift -r --gen cpp:no_skeleton ../calculator.thrift
//     g++ -std=c++17 -Igen-cpp calculator.cpp gen-cpp/*.cpp -lthrift -lthriftz -o calculator
//     ./calculator [PORT]
//
// Needs the Thrift compiler, its C++ library and the headers of Boost (Debian: thrift-compiler, libthrift-dev,
// libboost-dev).

#include <functional>  // TSocket.h of Thrift 0.17 needs it but does not include it
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/protocol/THeaderProtocol.h>
#include <thrift/protocol/TMultiplexedProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <thrift/transport/TSocket.h>
#include "Calculator.h"

using namespace apache::thrift;
using tutorial::CalculatorClient;

std::shared_ptr<transport::TSocket> connectTo(int port) {
  auto socket = std::make_shared<transport::TSocket>("127.0.0.1", port);
  // In ms. The mesh has its own timeout, 10 s by default.
  socket->setConnTimeout(5000);
  socket->setSendTimeout(12000);
  socket->setRecvTimeout(12000);
  return socket;
}

tutorial::Work work(int32_t num1, int32_t num2, tutorial::Operation::type op) {
  tutorial::Work made;
  made.num1 = num1;
  made.num2 = num2;
  made.op = op;
  return made;
}

void plain(int port) {
  auto transport = std::make_shared<transport::TFramedTransport>(connectTo(port));
  CalculatorClient client(std::make_shared<protocol::TBinaryProtocol>(transport));
  transport->open();
  std::cout << "2 + 40 = " << client.add(2, 40) << "\n";
  try {
    client.calculate(1, work(1, 0, tutorial::Operation::DIVIDE));
  } catch (const tutorial::InvalidOperation& refused) {  // declared in the IDL
    std::cout << "1 / 0: " << refused.why << "\n";
  }
  try {
    client.add(INT32_MAX, 1);
  } catch (const TApplicationException& error) {  // an error of the mesh, or an undeclared error of the handler
    std::cout << "error " << static_cast<int>(error.getType()) << ": " << error.what() << "\n";
  }
  transport->close();
}

// Select the service and its version with the multiplexed protocol.
void named(int port) {
  auto transport = std::make_shared<transport::TFramedTransport>(connectTo(port));
  auto binary = std::make_shared<protocol::TBinaryProtocol>(transport);
  CalculatorClient client(std::make_shared<protocol::TMultiplexedProtocol>(binary, "Calculator@^1"));
  transport->open();
  std::cout << "15 - 10 = " << client.calculate(1, work(15, 10, tutorial::Operation::SUBTRACT)) << "\n";
  transport->close();
}

// The same with THeader, and a timeout of the call.
void withHeaders(int port) {
  auto header = std::make_shared<protocol::THeaderProtocol>(connectTo(port));
  CalculatorClient client(header);
  header->getTransport()->open();
  header->setHeader("katamari-service", "Calculator");
  header->setHeader("katamari-timeout-ms", "2000");
  std::cout << "6 * 7 = " << client.calculate(2, work(6, 7, tutorial::Operation::MULTIPLY)) << "\n";
  header->getTransport()->close();
}

int main(int argc, char** argv) {
  const int port = argc > 1 ? std::atoi(argv[1]) : 9090;
  try {
    plain(port);
    named(port);
    withHeaders(port);
  } catch (const transport::TTransportException& error) {
    std::cerr << "cannot talk to port " << port << ": " << error.what() << "\n";
    return 1;
  }
}
