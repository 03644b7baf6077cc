// Katamari for C++ runs generated Thrift code and your handler as a chassis, one process of the mesh.
//
//   int main() {
//     auto handler = std::make_shared<CalculatorHandler>();
//     return katamari::serve(std::make_shared<CalculatorProcessor>(handler), {"calculator.thrift", "Calculator", "1.0.0"});
//   }
//
// The chassis listens at KATAMARI_LISTEN, serves its own service and the control service (describe, ping, drain), and
// exits when its resource manager does. Without KATAMARI_LISTEN, it is a plain framed Thrift server on
// 127.0.0.1:9095. Limits: bytes and nesting of a message, as the mesh has set them (16 MiB and 64 levels without one).

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <thrift/TApplicationException.h>
#include <thrift/TProcessor.h>
#include <thrift/protocol/TProtocol.h>

namespace katamari {

class ContentBase;

namespace detail {
struct Call;
}

/**
 * Options of a chassis. `{idl, service, version}` is enough. C++20 can name the members: `{.idl = ..., .service =
 * ...}`.
 */
struct Options {
  /** The IDL file, looked up from the working directory, then beside the program. Its includes are read too. */
  std::string idl;
  /** Name of the service in the IDL file. */
  std::string service;
  /** SemVer, such as `1.2.0`. Copies with the same version must have the same interface. */
  std::string version;
  /**
   * Number of calls that the process handles at a time, in that many threads. With 1, every handler runs in the
   * thread that called `serve`.
   */
  int concurrency = 1;
  /** Calls can prefer pools with these tags. */
  std::vector<std::string> tags = {};
  /** Only calls that ask for exactly these roles reach this chassis. */
  std::vector<std::string> roles = {};
  /** Other details that calls can ask for. */
  std::map<std::string, std::string> more = {};
  /** Folders for files that the IDL file includes and that are not beside the including file. */
  std::vector<std::string> includes = {};
  /** Makes the chassis a content server (content.h): the mesh has it open shards of indices. */
  std::shared_ptr<ContentBase> content = nullptr;
};

/**
 * Serves calls until the chassis has drained. The resource manager, SIGTERM or `retireAfterReply` starts the drain.
 * @return the exit code for `main`: 0 after a drain, 1 if the chassis could not start; standard error then says why.
 */
int serve(std::shared_ptr<apache::thrift::TProcessor> processor, const Options& options);

/** A shard that is not wholly in an answer. */
struct AbsentShard {
  /** `index@version/shard` */
  std::string shard;
  /** Why: NO_REPLICA, TIMED_OUT, FAILED, OVERLOADED or CUT_SHORT. More may be added. */
  std::string lack;
};

/** How many shards of an index are in an answer. */
struct Coverage {
  /** Shards that the call was about. */
  std::int32_t shards = 0;
  /** Those of them that are wholly in the answer. */
  std::int32_t complete = 0;
  /** The others in order of their names, at most 10. */
  std::vector<AbsentShard> missing = {};
};

/** Facts about a reply. */
struct ReplyInfo {
  /** Version of the service or index that replied; "" if the mesh did not name it. */
  std::string version = {};
  /** Absent for other services than indices, and for a declared exception. */
  std::optional<Coverage> coverage = std::nullopt;
};

/**
 * Options of a client of another service.
 */
struct CallOptions {
  /** Exact version or a SemVer range; "" for any. */
  std::string version = {};
  /** Timeout of each call, if less than the remaining time of the current call. Zero means that remaining time. */
  std::chrono::milliseconds timeout = std::chrono::milliseconds::zero();
  /**
   * Share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter `minCoverage` of
   * a method, and is also for methods without one.
   */
  std::optional<double> minCoverage = std::nullopt;
  /**
   * Called with the facts about each reply, before the method returns its value or throws a declared exception. Not
   * called for other errors. What it throws, the method throws.
   */
  std::function<void(const ReplyInfo&)> onReply = nullptr;
};

/**
 * Who makes a call, as proved to the mesh.
 */
struct Identity {
  std::string name = "anonymous";
  std::vector<std::string> roles = {};
  /** anonymous, mtls, token, jwt, chassis or mesh. */
  std::string how = "anonymous";
};

/**
 * The context of the call that a handler works on. Only the thread of the handler may use it, and only until the
 * handler returns.
 */
class Context {
 public:
  using Clock = std::chrono::steady_clock;

  const std::string& method() const;
  /** Caller, for logs: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`. */
  const std::string& caller() const;
  /** Caller as proved to the mesh. */
  const Identity& identity() const;
  /** Sticky key of the call; "" for none. */
  const std::string& key() const;
  /** W3C trace context; "" for none. */
  const std::string& traceparent() const;
  const std::string& tracestate() const;
  /** Transport headers of the client that the mesh does not use, as sent; names of HTTP headers are in lower case. */
  const std::map<std::string, std::string>& headers() const;
  /** 0 for the first try, more if the mesh retries an idempotent call. */
  int attempt() const;

  /**
   * Deadline of the call. The mesh treats a handler that runs past it as hung, and kills its process one second
   * later.
   */
  Clock::time_point deadline() const;
  /** Time until the deadline; zero after it. */
  std::chrono::microseconds timeLeft() const;
  /** Whether the caller no longer waits: the deadline has passed, or the connection has closed. */
  bool isAbandoned() const;

  /** Makes the process exit after the reply to this call; the mesh replaces it. For code that must not be reused. */
  void retireAfterReply();

  /**
   * Returns a generated client of another service in the mesh. Its calls end within the remaining time and pass on
   * the trace. They throw the exceptions that their IDL declares, and katamari::Error for every other error. The
   * client may outlive the call.
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

/** Returns the context of the call that this thread works on. Throws std::logic_error outside of a call. */
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
  refusedAsPoison = 12,
  incomplete = 13,
};

/** Returns the name of a code as in the documentation: `no_pool`. */
const char* nameOf(ErrorCode code);

/** A call to another service failed with an error other than a declared exception. */
class Error : public apache::thrift::TApplicationException {
 public:
  Error(ErrorCode code, const std::string& message, bool notRun = false,
        std::chrono::milliseconds retryAfter = std::chrono::milliseconds::zero());

  ErrorCode code() const { return code_; }
  /** Whether the call certainly did not run, so that a retry is safe. */
  bool notRun() const { return notRun_; }
  /** Delay after which a retry may succeed; zero if unknown. */
  std::chrono::milliseconds retryAfter() const { return retryAfter_; }

 private:
  ErrorCode code_;
  bool notRun_;
  std::chrono::milliseconds retryAfter_;
};

enum class Level { info, warning, error };

/** A log line, written when it goes out of scope. */
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
 * Thread-safe.
 */
inline LogLine log(Level level = Level::info) { return LogLine(level); }

}  // namespace katamari
