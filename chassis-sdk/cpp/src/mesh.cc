// Calls from a handler to other services of the mesh: a protocol and a transport for generated clients. The protocol
// puts the CallContext first; the transport sends each call over a connection to KATAMARI_MESH and waits for its
// answer until the deadline, never longer. Connections are kept for the next call, of any thread; one on which a call
// did not end well is closed.

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
// thrift/transport/TServerSocket.h needs it and does not say so.
#include <functional>
#include <mutex>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <thrift/transport/TSocket.h>

#include "address.h"
#include "call.h"
#include "katamari/chassis.h"
#include "log.h"
#include "wire.h"

namespace katamari {

using namespace apache::thrift::protocol;
using apache::thrift::TApplicationException;
using apache::thrift::transport::TMemoryBuffer;
using apache::thrift::transport::TSocket;
using Clock = std::chrono::steady_clock;

namespace {

/** The mesh itself answers at the deadline; it gets so much longer to do so. */
constexpr std::chrono::milliseconds answerGrace{500};
constexpr std::size_t idleConnectionsMax = 16;

int msUntil(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(0, std::min<std::int64_t>(left, 1'000'000'000)));
}

/** A connection to the mesh, used for one call after the other. */
class MeshConnection {
 public:
  MeshConnection(const std::string& address, Clock::time_point end) {
    const auto [path, host, port] = detail::parseAddress(address);
    socket_ = path.empty() ? std::make_unique<TSocket>(host, port) : std::make_unique<TSocket>(path);
    socket_->setConnTimeout(std::max(1, msUntil(end)));
    try {
      socket_->open();
    } catch (const std::exception& error) {
      throw Error(ErrorCode::resourceFailed, "The mesh at " + address + " cannot be reached: " + error.what(), true);
    }
  }

  /** Nothing has come since the last call, neither an end nor a notice that the mesh drains. */
  bool isFresh() const {
    char byte;
    return ::recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }

  void send(const std::string& frame, Clock::time_point end) {
    for (std::size_t sent = 0; sent < frame.size();) {
      const auto taken = ::send(fd(), frame.data() + sent, frame.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (taken > 0) sent += static_cast<std::size_t>(taken);
      else waitFor(POLLOUT, end);
    }
  }

  /** The next message, without its length. */
  std::string receive(Clock::time_point end) {
    std::uint32_t word = 0;
    receiveAll(reinterpret_cast<char*>(&word), sizeof word, end);
    const std::size_t length = ntohl(word);
    if (length > static_cast<std::size_t>(detail::frameBytesMax)) throw std::runtime_error("it answered with too long a frame");
    std::string frame(length, '\0');
    receiveAll(frame.data(), length, end);
    return frame;
  }

 private:
  int fd() const { return socket_->getSocketFD(); }

  void receiveAll(char* bytes, std::size_t size, Clock::time_point end) {
    for (std::size_t have = 0; have < size;) {
      const auto taken = ::recv(fd(), bytes + have, size - have, MSG_DONTWAIT);
      if (taken > 0) have += static_cast<std::size_t>(taken);
      else if (taken == 0) throw std::runtime_error("it closed the connection");
      else waitFor(POLLIN, end);
    }
  }

  /** After a send or a receive that took nothing. */
  void waitFor(short events, Clock::time_point end) const {
    if (errno == EINTR) return;
    if (errno != EAGAIN && errno != EWOULDBLOCK) throw std::runtime_error(std::strerror(errno));
    pollfd watched{fd(), events, 0};
    const auto left = msUntil(end);
    if (left == 0) throw Error(ErrorCode::timeout, "the deadline passed");
    ::poll(&watched, 1, left);
  }

  std::unique_ptr<TSocket> socket_;
};

/** Connections to the mesh that no call uses now. */
class MeshConnections {
 public:
  std::unique_ptr<MeshConnection> take(const std::string& address, Clock::time_point end) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (!idle_.empty()) {
        auto last = std::move(idle_.back());
        idle_.pop_back();
        if (last->isFresh()) return last;
      }
    }
    return std::make_unique<MeshConnection>(address, end);
  }

  void giveBack(std::unique_ptr<MeshConnection> connection) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.size() < idleConnectionsMax) idle_.push_back(std::move(connection));
  }

  static MeshConnections& shared() {
    static MeshConnections connections;
    return connections;
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<MeshConnection>> idle_;
};

/** What is written is one call; `flush` sends it, and what is read afterwards is its answer. */
class MeshTransport : public TMemoryBuffer {
 public:
  void begin(std::string name, bool isOneway, Clock::time_point end) {
    // Whatever the last call has left, read or not.
    resetBuffer(TMemoryBuffer::defaultSize);
    resetConsumedMessageSize();
    name_ = std::move(name);
    isOneway_ = isOneway;
    end_ = end;
  }

  void flush() override {
    const auto call = detail::framed(*this);
    if (call.size() > static_cast<std::size_t>(detail::frameBytesMax))
      throw Error(ErrorCode::tooLarge, "Cannot call " + name_ + ": its arguments have " + std::to_string(call.size()) +
                                           " bytes, the limit is " + std::to_string(detail::frameBytesMax), true);
    const auto address = addressOfMesh();
    auto connection = MeshConnections::shared().take(address, end_);
    try {
      connection->send(call, end_);
      if (isOneway_) answer_.clear();
      else answer_ = answerTo(*connection);
    } catch (const Error&) {
      throw Error(ErrorCode::timeout, "The mesh did not answer " + name_ + " by the deadline");
    } catch (const std::exception& error) {
      throw Error(ErrorCode::resourceFailed, "The mesh at " + address + " failed during " + name_ + ": " + error.what());
    }
    MeshConnections::shared().giveBack(std::move(connection));
    resetBuffer(reinterpret_cast<std::uint8_t*>(answer_.data()), static_cast<std::uint32_t>(answer_.size()));
  }

 private:
  std::string answerTo(MeshConnection& connection) const {
    for (;;) {
      auto frame = connection.receive(end_ + answerGrace);
      // A notice that the mesh drains may come first: what is under way it answers all the same.
      if (detail::readHead(frame).type != T_ONEWAY) return frame;
    }
  }

  std::string addressOfMesh() const {
    const char* const address = std::getenv("KATAMARI_MESH");
    if (address != nullptr && *address != '\0') return address;
    throw Error(ErrorCode::noPool,
                "Cannot call " + name_ + ": KATAMARI_MESH is not set, only a chassis that a mesh has started can call others", true);
  }

  std::string name_;
  bool isOneway_ = false;
  Clock::time_point end_;
  std::string answer_;
};

/** Strict binary. Before the arguments of each call goes its context; an exception of the mesh is thrown as Error. */
class MeshProtocol : public TBinaryProtocol {
 public:
  MeshProtocol(std::shared_ptr<MeshTransport> transport, detail::CallContext handedOn, Clock::time_point deadline,
               std::chrono::milliseconds timeout)
      : TBinaryProtocol(transport, detail::frameBytesMax, detail::frameBytesMax, true, true),
        transport_(std::move(transport)),
        handedOn_(std::move(handedOn)),
        deadline_(deadline),
        timeout_(timeout) {}

  std::uint32_t writeMessageBegin_virt(const std::string& name, const TMessageType type, const std::int32_t seqId) override {
    const auto now = Clock::now();
    const auto end = timeout_.count() > 0 ? std::min(deadline_, now + timeout_) : deadline_;
    const auto full = handedOn_.service + "." + name;
    if (end <= now) throw Error(ErrorCode::timeout, "Cannot call " + full + ": there is no time left", true);
    transport_->begin(full, type == T_ONEWAY, end);
    const auto bytes = TBinaryProtocol::writeMessageBegin(name, type, seqId);
    handedOn_.timeLeftUs = std::chrono::duration_cast<std::chrono::microseconds>(end - now).count();
    detail::writeCallContext(*this, handedOn_);
    return bytes;
  }

  std::uint32_t readMessageBegin_virt(std::string& name, TMessageType& type, std::int32_t& seqId) override {
    const auto bytes = TBinaryProtocol::readMessageBegin(name, type, seqId);
    if (type == T_EXCEPTION) throwError();
    return bytes;
  }

 private:
  /** A TApplicationException, and before it what the mesh has to say, if it is the mesh's own. */
  [[noreturn]] void throwError() {
    detail::ReplyContext context;
    std::string why;
    detail::readFields(*this, [&](std::int16_t id, TType type) {
      if (id == 1 && type == T_STRING) readString(why);
      else if (id == 32767 && type == T_STRUCT) context = detail::readReplyContext(*this);
      else return false;
      return true;
    });
    throw Error(context.error.value_or(ErrorCode::internal), why, context.notRun, std::chrono::milliseconds(context.retryAfterMs));
  }

  const std::shared_ptr<MeshTransport> transport_;
  detail::CallContext handedOn_;
  const Clock::time_point deadline_;
  const std::chrono::milliseconds timeout_;
};

/** The type that Thrift has for a code, as the mesh's error table says. */
TApplicationException::TApplicationExceptionType thriftTypeOf(ErrorCode code) {
  if (code == ErrorCode::noPool) return TApplicationException::UNKNOWN_METHOD;
  return code == ErrorCode::badRequest ? TApplicationException::PROTOCOL_ERROR : TApplicationException::INTERNAL_ERROR;
}

}  // namespace

std::shared_ptr<TProtocol> Context::protocolTo(const std::string& service, const CallOptions& options) const {
  detail::CallContext handedOn;
  handedOn.service = service;
  handedOn.version = options.version;
  handedOn.traceparent = call_.facts.traceparent;
  handedOn.tracestate = call_.facts.tracestate;
  handedOn.caller = "chassis " + detail::resourceName();
  return std::make_shared<MeshProtocol>(std::make_shared<MeshTransport>(), std::move(handedOn), call_.deadline, options.timeout);
}

Error::Error(ErrorCode code, const std::string& message, bool notRun, std::chrono::milliseconds retryAfter)
    : TApplicationException(thriftTypeOf(code), message), code_(code), notRun_(notRun), retryAfter_(retryAfter) {}

const char* nameOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::noPool: return "no_pool";
    case ErrorCode::overloaded: return "overloaded";
    case ErrorCode::timeout: return "timeout";
    case ErrorCode::resourceFailed: return "resource_failed";
    case ErrorCode::draining: return "draining";
    case ErrorCode::denied: return "denied";
    case ErrorCode::rateLimited: return "rate_limited";
    case ErrorCode::tooLarge: return "too_large";
    case ErrorCode::badRequest: return "bad_request";
    case ErrorCode::internal: return "internal";
    case ErrorCode::cancelled: return "cancelled";
  }
  return "internal";
}

}  // namespace katamari
