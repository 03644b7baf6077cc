// See call.h.

#include "call.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>

namespace katamari {

using namespace apache::thrift::protocol;
using apache::thrift::TApplicationException;

namespace detail {

namespace {

/** Timeout of a call without a context, from a client that is not the mesh. */
constexpr std::chrono::seconds timeWithoutMesh{60};

void putI32(std::string& bytes, std::size_t at, std::uint32_t value) {
  const std::uint32_t word = htonl(value);
  std::memcpy(&bytes[at], &word, sizeof word);
}

}  // namespace

std::unique_ptr<Call> Call::read(std::shared_ptr<Connection> from, std::string&& frame) {
  auto call = std::make_unique<Call>();
  call->from = std::move(from);
  call->bytes = std::move(frame);
  auto head = readHead(call->bytes);
  if (head.type != T_CALL && head.type != T_ONEWAY) throw std::runtime_error("expected a call or a oneway call");
  call->isOneway = head.type == T_ONEWAY;
  call->seqId = head.seqId;
  const auto colon = head.name.rfind(':');
  call->method = colon == std::string::npos ? head.name : head.name.substr(colon + 1);
  if (colon != std::string::npos) call->service = head.name.substr(0, std::min(colon, head.name.find('@')));

  auto argsStart = head.bodyStart;
  call->isFromMesh = hasContext(call->bytes, argsStart);
  if (call->isFromMesh) call->facts = readCallContext(call->bytes, argsStart);
  else call->facts.caller = "a client that is not the mesh";
  if (call->service.empty()) call->service = call->facts.service;
  const auto left = call->isFromMesh ? std::chrono::microseconds(call->facts.timeLeftUs) : timeWithoutMesh;
  // A very long timeout must not overflow the clock.
  call->deadline = std::chrono::steady_clock::now() + std::min<std::chrono::microseconds>(left, std::chrono::hours(24 * 365));

  // Write a head with the plain method name directly before the arguments, for the generated code. There is room,
  // because the received head was at least as long.
  const auto nameBytes = call->method.size();
  call->start = argsStart - 12 - nameBytes;
  putI32(call->bytes, call->start, 0x80010000U | static_cast<std::uint32_t>(T_CALL));
  putI32(call->bytes, call->start + 4, static_cast<std::uint32_t>(nameBytes));
  call->bytes.replace(call->start + 8, nameBytes, call->method);
  putI32(call->bytes, call->start + 8 + nameBytes, static_cast<std::uint32_t>(call->seqId));
  return call;
}

void Call::answer(const std::string& frame) const {
  if (!isOneway) from->send(frame);
}

void Call::refuse(ErrorCode code, TApplicationException::TApplicationExceptionType type, const std::string& why) const {
  ReplyContext context;
  if (isFromMesh) {
    context.error = code;
    context.notRun = true;
  }
  answer(exceptionMessage(method, seqId, context, type, why));
}

Call*& currentCall() {
  thread_local Call* call = nullptr;
  return call;
}

}  // namespace detail

const std::string& Context::method() const { return call_.method; }
const std::string& Context::caller() const { return call_.facts.caller; }
const Identity& Context::identity() const { return call_.facts.identity; }
const std::string& Context::key() const { return call_.facts.key; }
const std::string& Context::traceparent() const { return call_.facts.traceparent; }
const std::string& Context::tracestate() const { return call_.facts.tracestate; }
const std::map<std::string, std::string>& Context::headers() const { return call_.facts.headers; }
int Context::attempt() const { return call_.facts.attempt; }
Context::Clock::time_point Context::deadline() const { return call_.deadline; }

std::chrono::microseconds Context::timeLeft() const {
  const auto left = std::chrono::duration_cast<std::chrono::microseconds>(call_.deadline - Clock::now());
  return std::max(left, std::chrono::microseconds::zero());
}

bool Context::isAbandoned() const { return call_.from->isGone() || Clock::now() >= call_.deadline; }
void Context::retireAfterReply() { call_.isRetiring = true; }

Context& context() {
  auto* const call = detail::currentCall();
  if (call != nullptr) return call->context;
  throw std::logic_error("katamari::context() was called outside of a call: use it only in the thread that runs a handler");
}

}  // namespace katamari
