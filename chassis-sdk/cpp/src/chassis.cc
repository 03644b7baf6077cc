// serve(): connects the parts. The server thread reads calls and answers the control service itself, so that a ping
// gets its reply even while handlers run. It passes the control calls of a content server to threads of their own, and
// queues all other calls. The thread that called serve() and, with concurrency above 1, further threads run them.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include <thrift/Thrift.h>

#include "call.h"
#include "content_control.h"
#include "idl.h"
#include "katamari/chassis.h"
#include "katamari/content.h"
#include "log.h"
#include "server.h"
#include "thrown.h"
#include "wire.h"

namespace katamari {

using namespace apache::thrift::protocol;
using apache::thrift::TApplicationException;
using apache::thrift::TProcessor;
using apache::thrift::TProcessorEventHandler;
using detail::Call;

namespace {

/** Calls that wait for a thread. In a mesh it is empty: the mesh sends at most `concurrency` calls at a time. */
class Queue {
 public:
  void push(std::unique_ptr<Call> call) {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.notify_one();
  }

  /** Waits for the next call; null when the queue is closed and empty. */
  std::unique_ptr<Call> pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return isClosed_ || !calls_.empty(); });
    if (calls_.empty()) return nullptr;
    auto call = std::move(calls_.front());
    calls_.pop_front();
    return call;
  }

  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    isClosed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Call>> calls_;
  bool isClosed_ = false;
};

/**
 * Observes how the generated code processes a call. It forwards all events to the event handler that the author had
 * set.
 */
class Observer : public TProcessorEventHandler {
 public:
  explicit Observer(std::shared_ptr<TProcessorEventHandler> other) : other_(std::move(other)) {}

  void postRead(void* ctx, const char* name, std::uint32_t bytes) override {
    detail::currentCall()->wasRead = true;
    if (other_) other_->postRead(ctx, name, bytes);
  }
  /** Called inside the catch clause for an undeclared exception of the handler. */
  void handlerError(void* ctx, const char* name) override {
    fail(*detail::currentCall());
    if (other_) other_->handlerError(ctx, name);
  }
  /** Records and logs the exception of the current catch clause. One for a shard that is not open is a refusal. */
  static void fail(Call& call) {
    try {
      throw;
    } catch (const ShardNotOpen& error) {
      call.failure = error.what();
      call.failureCode = error.code();
      return;
    } catch (const Error& error) {
      // Such as no_pool of a call to another service: its message says all.
      call.failure = error.what();
      log(Level::warning) << call.method << " failed: " << nameOf(error.code()) << ": " << error.what();
      return;
    } catch (...) {
      // As any other.
    }
    const auto thrown = detail::currentException();
    call.failure = thrown.message.empty() ? thrown.type : thrown.message;
    log(Level::error) << call.method << " threw " << thrown.type << ": " << thrown.message;
  }

  void* getContext(const char* name, void* server) override { return other_ ? other_->getContext(name, server) : nullptr; }
  void freeContext(void* ctx, const char* name) override { if (other_) other_->freeContext(ctx, name); }
  void preRead(void* ctx, const char* name) override { if (other_) other_->preRead(ctx, name); }
  void preWrite(void* ctx, const char* name) override { if (other_) other_->preWrite(ctx, name); }
  void postWrite(void* ctx, const char* name, std::uint32_t bytes) override { if (other_) other_->postWrite(ctx, name, bytes); }
  void asyncComplete(void* ctx, const char* name) override { if (other_) other_->asyncComplete(ctx, name); }

 private:
  const std::shared_ptr<TProcessorEventHandler> other_;
};

class Chassis {
 public:
  Chassis(std::shared_ptr<TProcessor> processor, const Options& options);
  /** Serves calls until the chassis has drained. */
  void run();
  void drain() noexcept { server_.drain(); }
  std::string address() const { return server_.address(); }

 private:
  void take(const std::shared_ptr<detail::Connection>& from, std::string&& frame);
  void refuseOversized(detail::Connection& from, const std::string& start, std::size_t bytes) const;
  void control(const Call& call);
  void describe(TProtocol& out) const;
  void work();
  void answer(Call& call);
  std::string answerOf(Call& call);
  std::string failed(const Call& call, TApplicationException::TApplicationExceptionType type, const std::string& why,
                     std::optional<ErrorCode> code = {}) const;

  const std::shared_ptr<TProcessor> processor_;
  const Options options_;
  const detail::Idl idl_;
  detail::Server server_;
  Queue queue_;
  /** Null for a chassis that is no content server. Ends before the server, which its threads use. */
  std::unique_ptr<detail::ContentControl> content_;
};

std::string environment(const char* name, const std::string& otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

Options checked(const Options& options) {
  if (options.service.empty() || options.version.empty() || options.idl.empty())
    throw std::invalid_argument("katamari::Options needs idl, service and version");
  if (options.concurrency < 1)
    throw std::invalid_argument("katamari::Options::concurrency is " + std::to_string(options.concurrency) + "; it must be at least 1");
  return options;
}

detail::Idl readIdl(const Options& options) {
  auto idl = detail::readIdl(options.idl, options.includes);
  const auto& services = idl.services;
  if (std::find(services.begin(), services.end(), options.service) != services.end()) return idl;
  std::string names;
  for (const auto& name : services) names += (names.empty() ? "" : ", ") + name;
  throw std::invalid_argument(idl.main + " has no service \"" + options.service + "\"; it has " + (names.empty() ? "none" : names));
}

Chassis::Chassis(std::shared_ptr<TProcessor> processor, const Options& options)
    : processor_(std::move(processor)),
      options_(checked(options)),
      idl_(readIdl(options_)),
      server_(environment("KATAMARI_LISTEN", "tcp:127.0.0.1:9095")) {
  if (processor_ == nullptr) throw std::invalid_argument("katamari::serve() needs a processor");
  // Limits that make no sense are an error at the start.
  detail::limits();
  if (options_.content != nullptr)
    content_ = std::make_unique<detail::ContentControl>(*options_.content, [this](Call& call) { server_.end(*call.from); });
  processor_->setEventHandler(std::make_shared<Observer>(processor_->getEventHandler()));
}

void Chassis::run() {
  std::thread reader([this] {
    server_.run([this](const auto& from, std::string&& frame, std::size_t oversized) {
      if (oversized == 0) take(from, std::move(frame));
      else refuseOversized(*from, frame, oversized);
    });
    queue_.close();
  });
  std::vector<std::thread> others;
  for (int i = 1; i < options_.concurrency; i++) others.emplace_back([this] { work(); });
  work();
  for (auto& other : others) other.join();
  reader.join();
}

/** Runs on the server thread. */
void Chassis::take(const std::shared_ptr<detail::Connection>& from, std::string&& frame) {
  auto call = Call::read(from, std::move(frame));
  if (call->isFromMesh) from->isOfMesh = true;
  if (call->service == "katamari.Chassis" || call->service == "katamari.Link") {
    control(*call);
  } else if (server_.isDraining()) {
    call->refuse(ErrorCode::draining, TApplicationException::INTERNAL_ERROR,
                 "Cannot take " + call->method + ": this process is draining; send the call to another one");
  } else if (call->service == "katamari.Content" && content_ != nullptr) {
    server_.begin(*from);
    content_->take(std::move(call));
  } else if (!call->service.empty() && call->service != options_.service) {
    call->refuse(ErrorCode::noPool, TApplicationException::UNKNOWN_METHOD,
                 "This is " + options_.service + "@" + options_.version + "; it does not offer " + call->service);
  } else {
    server_.begin(*from);
    queue_.push(std::move(call));
  }
}

/** Refuses a call of which only the begin was kept. */
void Chassis::refuseOversized(detail::Connection& from, const std::string& start, std::size_t bytes) const {
  const auto head = detail::readHead(start);
  if (head.type == T_ONEWAY) return;
  if (head.type != T_CALL) throw std::runtime_error("expected a call or a oneway call");
  const auto method = head.name.substr(head.name.rfind(':') + 1);
  detail::ReplyContext context;
  if (detail::hasContext(start, head.bodyStart)) {
    context.error = ErrorCode::tooLarge;
    context.notRun = true;
  }
  from.send(detail::exceptionMessage(method, head.seqId, context, TApplicationException::INTERNAL_ERROR,
                                     "Cannot take " + method + ": it has " + std::to_string(bytes) + " bytes, limit is " +
                                         std::to_string(detail::frameBytesMax()) + "; send it in smaller pieces"));
}

/**
 * Answers the control service (idl/chassis.thrift, and the ping of idl/link.thrift) at once, even while handlers
 * run.
 */
void Chassis::control(const Call& call) {
  const bool isChassis = call.service == "katamari.Chassis";
  const auto isVoid = call.method == "ping" || (isChassis && call.method == "drain");
  if (isVoid) {
    call.answer(detail::message(T_REPLY, call.method, call.seqId, [](TProtocol& out) { out.writeFieldStop(); }));
  } else if (isChassis && call.method == "describe") {
    call.answer(detail::message(T_REPLY, call.method, call.seqId, [this](TProtocol& out) { describe(out); }));
  } else {
    call.refuse(ErrorCode::noPool, TApplicationException::UNKNOWN_METHOD, call.service + " has no method \"" + call.method + "\"");
  }
  if (isChassis && call.method == "drain") server_.drain();
}

/** Writes the result of `describe`: field 0 has the details of the chassis. */
void Chassis::describe(TProtocol& out) const {
  out.writeFieldBegin("success", T_STRUCT, 0);
  detail::Fields fields(out);
  fields.text(1, options_.service)
      .text(2, options_.version)
      .texts(3, options_.roles)
      .texts(4, options_.tags)
      .map(5, options_.more)
      .text(6, idl_.main)
      .map(7, idl_.files)
      .i32(8, options_.concurrency)
      .text(9, "cpp " KATAMARI_VERSION);
  if (content_ != nullptr) fields.flag(11, true);
  fields.stop();
  out.writeFieldEnd();
  out.writeFieldStop();
}

/** Runs calls one after the other until the chassis has drained. */
void Chassis::work() {
  while (const auto call = queue_.pop()) {
    // Do not run a call whose connection has closed.
    if (!call->from->isGone()) answer(*call);
    server_.end(*call->from);
  }
}

void Chassis::answer(Call& call) {
  detail::currentCall() = &call;
  const auto frame = answerOf(call);
  detail::currentCall() = nullptr;
  call.answer(frame);
  if (call.isRetiring) server_.drain();
}

/** Returns the reply. The generated code decodes the arguments, calls the handler and encodes the result. */
std::string Chassis::answerOf(Call& call) {
  const auto in = detail::memory(call.bytes.data() + call.start, call.bytes.size() - call.start);
  const auto out = detail::memory();
  try {
    processor_->process(detail::binary(in, call.bytes.size()), detail::binary(out), nullptr);
  } catch (const std::exception& error) {
    if (!call.wasRead)
      return failed(call, TApplicationException::PROTOCOL_ERROR,
                    "The arguments of " + options_.service + "." + call.method + " do not match its interface: " + error.what());
    // The handler has returned, but its result cannot be encoded.
    Observer::fail(call);
  } catch (...) {
    Observer::fail(call);
  }
  const auto whatFailed = options_.service + "." + call.method + " failed: ";
  if (call.failureCode) return failed(call, TApplicationException::UNKNOWN_METHOD, call.failure, call.failureCode);
  if (!call.failure.empty()) return failed(call, TApplicationException::INTERNAL_ERROR, whatFailed + call.failure);
  detail::ReplyContext context;
  context.retire = call.isRetiring && call.isFromMesh;
  // The mesh sends oneway calls as ordinary calls, but the generated code writes no reply to them.
  if (out->available_read() == 0)
    return detail::message(T_REPLY, call.method, call.seqId, [&](TProtocol& reply) {
      detail::writeReplyContext(reply, context);
      reply.writeFieldStop();
    });
  if (out->available_read() > static_cast<std::uint32_t>(detail::frameBytesMax()))
    return failed(call, TApplicationException::INTERNAL_ERROR,
                  whatFailed + "its result has " + std::to_string(out->available_read()) + " bytes, limit is " +
                      std::to_string(detail::frameBytesMax()) + "; return less at once",
                  ErrorCode::tooLarge);
  return detail::withReplyContext(detail::framed(*out), call.method, context);
}

std::string Chassis::failed(const Call& call, TApplicationException::TApplicationExceptionType type, const std::string& why,
                            std::optional<ErrorCode> code) const {
  detail::ReplyContext context;
  context.retire = call.isRetiring && call.isFromMesh;
  if (call.isFromMesh) context.error = code;
  return detail::exceptionMessage(call.method, call.seqId, context, type, why);
}

/** The chassis that the signal handler drains. */
std::atomic<Chassis*> ofSignals{nullptr};

void onSigterm(int) {
  if (auto* const chassis = ofSignals.load()) chassis->drain();
}

/** Makes SIGTERM start a graceful shutdown during its lifetime. */
class Sigterm {
 public:
  explicit Sigterm(Chassis& chassis) {
    ofSignals = &chassis;
    struct sigaction action {};
    action.sa_handler = onSigterm;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGTERM, &action, &before_);
  }
  ~Sigterm() {
    ::sigaction(SIGTERM, &before_, nullptr);
    ofSignals = nullptr;
  }
  Sigterm(const Sigterm&) = delete;
  Sigterm& operator=(const Sigterm&) = delete;

 private:
  struct sigaction before_ {};
};

}  // namespace

int serve(std::shared_ptr<TProcessor> processor, const Options& options) {
  detail::resourceName() = environment("KATAMARI_RESOURCE", options.service + "@" + options.version);
  // Flush standard output after each line, so that the mesh gets it at once, even if the process is killed.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  apache::thrift::GlobalOutput.setOutputFunction([](const char* text) { log(Level::warning) << "thrift: " << text; });
  try {
    Chassis chassis(std::move(processor), options);
    const Sigterm sigterm(chassis);
    if (std::getenv("KATAMARI_LISTEN") == nullptr)
      std::printf("%s listens on %s (framed Thrift)\n", detail::resourceName().c_str(), chassis.address().c_str());
    chassis.run();
    return 0;
  } catch (const std::invalid_argument& error) {
    // EX_CONFIG: the mesh starts no other copy until a file has changed.
    log(Level::error) << "cannot start: " << error.what();
    return environment("KATAMARI_LIFELINE", "") == "stdin" ? 78 : 1;
  } catch (const std::exception& error) {
    log(Level::error) << "cannot start: " << error.what();
    return 1;
  }
}

}  // namespace katamari
