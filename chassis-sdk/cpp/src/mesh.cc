// Calls from handlers to other services of the mesh: a protocol and a transport for generated clients. The protocol
// writes the CallContext before the arguments. The transport sends each call over a connection to KATAMARI_MESH and
// waits for the reply until the deadline and a short grace period. Threads share the idle connections. A connection
// on which a call failed is closed.

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
// thrift/transport/TServerSocket.h uses <functional> without including it.
#include <functional>
#include <mutex>
#include <stdexcept>

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

/** Extra time after the deadline for the error reply of the mesh. */
constexpr std::chrono::milliseconds replyGrace{500};
constexpr std::size_t idleConnectionsMax = 16;
/** Larger replies are no replies. */
constexpr std::size_t skippedBytesMax = 0x40000000;

int msUntil(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(0, std::min<std::int64_t>(left, 1'000'000'000)));
}

/** A connection to the mesh. It carries one call at a time. */
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

  /** Whether the connection can be reused: it has no unread data, such as a drain notice, and is not closed. */
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

  /** Returns the next message, without its length. */
  std::string receive(Clock::time_point end) {
    std::uint32_t word = 0;
    receiveAll(reinterpret_cast<char*>(&word), sizeof word, end);
    const std::size_t length = ntohl(word);
    const auto most = static_cast<std::size_t>(detail::frameBytesMax()) + detail::contextBytesMax;
    if (length > skippedBytesMax) throw std::runtime_error("its reply declares " + std::to_string(length) + " bytes");
    if (length > most)
      throw Error(ErrorCode::tooLarge, "The reply is beyond the limits: it has " + std::to_string(length) +
                                           " bytes, the limit is " + std::to_string(detail::frameBytesMax()));
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

  /** Waits after a send or receive that would block. Throws an exception for other errors and at the deadline. */
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

/** Pool of idle connections to the mesh. */
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

/** Transport of a generated client: collects a call, sends it on `flush`, then holds the reply. */
class MeshTransport : public TMemoryBuffer {
 public:
  MeshTransport() : TMemoryBuffer(detail::limits()) {}

  void begin(std::string name, bool isOneway, Clock::time_point end) {
    // Drop what the last call left in the buffer.
    resetBuffer(TMemoryBuffer::defaultSize);
    resetConsumedMessageSize();
    name_ = std::move(name);
    isOneway_ = isOneway;
    end_ = end;
  }

  /** The message that was received last. */
  const std::string& answer() const { return answer_; }

  void flush() override {
    const auto call = detail::framed(*this);
    const auto bytes = call.size() - sizeof(std::uint32_t);
    if (bytes > static_cast<std::size_t>(detail::frameBytesMax()) + detail::contextBytesMax)
      throw Error(ErrorCode::tooLarge, "Cannot call " + name_ + ": its arguments have " + std::to_string(bytes) +
                                           " bytes, the limit is " + std::to_string(detail::frameBytesMax()), true);
    const auto address = addressOfMesh();
    auto connection = MeshConnections::shared().take(address, end_);
    try {
      connection->send(call, end_);
      if (isOneway_) answer_.clear();
      else answer_ = answerTo(*connection);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::tooLarge) throw;
      throw Error(ErrorCode::timeout, name_ + " got no reply before its deadline");
    } catch (const std::exception& error) {
      throw Error(ErrorCode::resourceFailed, "The connection to the mesh at " + address + " failed during " + name_ + ": " + error.what());
    }
    MeshConnections::shared().giveBack(std::move(connection));
    resetBuffer(reinterpret_cast<std::uint8_t*>(answer_.data()), static_cast<std::uint32_t>(answer_.size()));
  }

 private:
  std::string answerTo(MeshConnection& connection) const {
    for (;;) {
      auto frame = connection.receive(end_ + replyGrace);
      // A drain notice may come first. The mesh still replies to calls in flight.
      if (detail::readHead(frame).type != T_ONEWAY) return frame;
    }
  }

  std::string addressOfMesh() const {
    const char* const address = std::getenv("KATAMARI_MESH");
    if (address != nullptr && *address != '\0') return address;
    throw Error(ErrorCode::noPool,
                "Cannot call " + name_ + ": KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services", true);
  }

  std::string name_;
  bool isOneway_ = false;
  Clock::time_point end_;
  std::string answer_;
};

/** Strict binary protocol that writes a context before the arguments. It throws an error of the mesh as Error. */
class MeshProtocol : public TBinaryProtocol {
 public:
  MeshProtocol(std::shared_ptr<MeshTransport> transport, detail::CallContext callContext, Clock::time_point deadline,
               const CallOptions& options)
      : TBinaryProtocol(transport, detail::frameBytesMax(), detail::frameBytesMax(), true, true),
        transport_(std::move(transport)),
        callContext_(std::move(callContext)),
        deadline_(deadline),
        timeout_(options.timeout),
        onReply_(options.onReply) {}

  std::uint32_t writeMessageBegin_virt(const std::string& name, const TMessageType type, const std::int32_t seqId) override {
    const auto now = Clock::now();
    const auto end = timeout_.count() > 0 ? std::min(deadline_, now + timeout_) : deadline_;
    const auto full = callContext_.service + "." + name;
    if (end <= now) throw Error(ErrorCode::timeout, "Cannot call " + full + ": no time is left", true);
    transport_->begin(full, type == T_ONEWAY, end);
    const auto bytes = TBinaryProtocol::writeMessageBegin(name, type, seqId);
    callContext_.timeLeftUs = std::chrono::duration_cast<std::chrono::microseconds>(end - now).count();
    detail::writeCallContext(*this, callContext_);
    return bytes;
  }

  std::uint32_t readMessageBegin_virt(std::string& name, TMessageType& type, std::int32_t& seqId) override {
    const auto bytes = TBinaryProtocol::readMessageBegin(name, type, seqId);
    if (type == T_EXCEPTION) throwError();
    if (type == T_REPLY && onReply_) onReply_(detail::replyInfoIn(transport_->answer()));
    return bytes;
  }

 private:
  /** Reads a TApplicationException, and the context of the mesh in it if there is one, and throws it as Error. */
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
  detail::CallContext callContext_;
  const Clock::time_point deadline_;
  const std::chrono::milliseconds timeout_;
  const std::function<void(const ReplyInfo&)> onReply_;
};

/** Returns the Thrift exception type of a code, as in the error table of the mesh. */
TApplicationException::TApplicationExceptionType thriftTypeOf(ErrorCode code) {
  if (code == ErrorCode::noPool) return TApplicationException::UNKNOWN_METHOD;
  return code == ErrorCode::badRequest ? TApplicationException::PROTOCOL_ERROR : TApplicationException::INTERNAL_ERROR;
}

}  // namespace

std::shared_ptr<TProtocol> Context::protocolTo(const std::string& service, const CallOptions& options) const {
  if (options.minCoverage && !(*options.minCoverage >= 0 && *options.minCoverage <= 1))
    throw std::invalid_argument("minCoverage is " + std::to_string(*options.minCoverage) + ", expected a share from 0 to 1");
  detail::CallContext callContext;
  callContext.service = service;
  callContext.version = options.version;
  callContext.traceparent = call_.facts.traceparent;
  callContext.tracestate = call_.facts.tracestate;
  callContext.minCoverage = options.minCoverage;
  callContext.caller = "chassis " + detail::resourceName();
  return std::make_shared<MeshProtocol>(std::make_shared<MeshTransport>(), std::move(callContext), call_.deadline, options);
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
    case ErrorCode::refusedAsPoison: return "refused_as_poison";
    case ErrorCode::incomplete: return "incomplete";
  }
  return "internal";
}

}  // namespace katamari
