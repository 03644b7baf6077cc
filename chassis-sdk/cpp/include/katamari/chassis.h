// Katamari for C++: your generated Thrift code and a handler become a chassis, one process of the mesh.
//
//   int main() {
//     auto handler = std::make_shared<CalculatorHandler>();
//     return katamari::serve(std::make_shared<CalculatorProcessor>(handler), {"calculator.thrift", "Calculator", "1.0.0"});
//   }
//
// It listens at KATAMARI_LISTEN, answers its own service and the control service (describe, ping, drain), and ends
// when its resource manager does. Run by hand it is a plain framed Thrift server on 127.0.0.1:9095. Frames have 16
// MiB at most, nesting is 64 deep.

#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <thrift/TApplicationException.h>
#include <thrift/TProcessor.h>
#include <thrift/protocol/TProtocol.h>

namespace katamari {

namespace detail {
struct Call;
}

/**
 * What a chassis is. `{idl, service, version}` is enough; in C++20 the members can be named: `{.idl = ..., .service =
 * ...}`.
 */
struct Options {
  /** The IDL file; looked for from the working directory, then beside the program. What it includes is read too. */
  std::string idl;
  /** Name of the service in it. */
  std::string service;
  /** SemVer, such as `1.2.0`. Copies with equal version must have equal interfaces. */
  std::string version;
  /**
   * Calls to work on at once, each in a thread of its own. With 1 every handler runs in the thread that called
   * `serve`.
   */
  int concurrency = 1;
  /** Calls can prefer pools that have them. */
  std::vector<std::string> tags = {};
  /** A wall: only calls that ask for exactly these roles get here. */
  std::vector<std::string> roles = {};
  /** Any other details that calls can ask for. */
  std::map<std::string, std::string> more = {};
};

/**
 * Serves until the chassis is drained: by its manager, by SIGTERM, or because a handler asked to be replaced.
 * @return what main is to return: 0 after draining, 1 when it could not start; then standard error says why.
 */
int serve(std::shared_ptr<apache::thrift::TProcessor> processor, const Options& options);

/**
 * For one client: which version it calls (exact, or a SemVer range; "" for any), and how long each of its calls may
 * take at most.
 */
struct CallOptions {
  std::string version = {};
  /** Zero: as long as the call that is being worked on has left. */
  std::chrono::milliseconds timeout = std::chrono::milliseconds::zero();
};

/**
 * What a handler knows of the call it works on, and what it may ask for. Belongs to the thread of the handler, and
 * ends with the call.
 */
class Context {
 public:
  using Clock = std::chrono::steady_clock;

  const std::string& method() const;
  /** Who calls, for people: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`. */
  const std::string& caller() const;
  /** The caller's sticky key; "" for none. */
  const std::string& key() const;
  /** W3C trace context; "" for none. */
  const std::string& traceparent() const;
  const std::string& tracestate() const;
  /** What the client said in headers of its transport that mean nothing to the mesh; names in lower case. */
  const std::map<std::string, std::string>& headers() const;
  /** 0 for the first try, more when the mesh sends an idempotent call again. */
  int attempt() const;

  /**
   * When the caller gives up. A handler that works on past it is taken for hung, and its process is killed a second
   * later.
   */
  Clock::time_point deadline() const;
  /** Until then; zero when it has passed. */
  std::chrono::microseconds timeLeft() const;
  /** Nobody waits for the answer any more: the deadline has passed, or the connection has ended. */
  bool isAbandoned() const;

  /** Answer this call, then end and be replaced: for code that must not be used again. */
  void retireAfterReply();

  /**
   * A generated client of another service in the mesh. Its calls are made within the time that is left, and hand on
   * the trace. They throw what their IDL declares, and katamari::Error for everything else. It may live longer than
   * the call.
   */
  template <class Client>
  Client client(const std::string& service, const CallOptions& options = {}) const {
    return Client(protocolTo(service, options));
  }

  explicit Context(detail::Call& call) : call_(call) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  std::shared_ptr<apache::thrift::protocol::TProtocol> protocolTo(const std::string& service,
                                                                  const CallOptions& options) const;
  detail::Call& call_;
};

/** The context of the call that this thread works on. Throws std::logic_error where there is none. */
Context& context();

/** Codes of the mesh's error table; the numbers are those of ErrorCode in idl/katamari.thrift. */
enum class ErrorCode {
  noPool = 1,
  overloaded = 2,
  timeout = 3,
  resourceFailed = 4,
  draining = 5,
  denied = 6,
  rateLimited = 7,
  tooLarge = 8,
  badRequest = 9,
  internal = 10,
  cancelled = 11,
};

/** As it is written everywhere else: `no_pool`. */
const char* nameOf(ErrorCode code);

/** A call to another service failed, and not with an exception that its method declares. */
class Error : public apache::thrift::TApplicationException {
 public:
  Error(ErrorCode code, const std::string& message, bool notRun = false,
        std::chrono::milliseconds retryAfter = std::chrono::milliseconds::zero());

  ErrorCode code() const { return code_; }
  /** The call certainly never ran: it may be sent again. */
  bool notRun() const { return notRun_; }
  /** When to try again; zero when nothing was said. */
  std::chrono::milliseconds retryAfter() const { return retryAfter_; }

 private:
  ErrorCode code_;
  bool notRun_;
  std::chrono::milliseconds retryAfter_;
};

enum class Level { info, warning, error };

/** One line of the log, written when it goes out of scope. */
class LogLine {
 public:
  explicit LogLine(Level level) : level_(level) {}
  LogLine(const LogLine&) = delete;
  LogLine& operator=(const LogLine&) = delete;
  ~LogLine();

  template <class T>
  LogLine& operator<<(const T& value) {
    text_ << value;
    return *this;
  }

 private:
  Level level_;
  std::ostringstream text_;
};

/**
 * `katamari::log() << "seen " << n;` writes one line with time, level and the name of this copy to standard error.
 * Any thread may.
 */
inline LogLine log(Level level = Level::info) { return LogLine(level); }

}  // namespace katamari
