// One call, from its frame to its reply.

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "server.h"
#include "wire.h"

namespace katamari::detail {

struct Call {
  std::shared_ptr<Connection> from;
  /**
   * The frame. From `start` on, it contains the message for the generated code: a head with the plain method name,
   * then the arguments.
   */
  std::string bytes;
  std::size_t start = 0;
  /** From `Service@version:method`, or from the context; "" if neither names it. */
  std::string service;
  std::string method;
  std::int32_t seqId = 0;
  bool isOneway = false;
  /** Whether the call came with a context. Then its reply may have one too. */
  bool isFromMesh = false;
  CallContext facts;
  std::chrono::steady_clock::time_point deadline;

  /** Whether the generated code has decoded the arguments. */
  bool wasRead = false;
  /** Message of an undeclared exception of the handler; "" for none. */
  std::string failure;
  /** Set if the handler has failed because a shard is not open: `failure` is then the whole message. */
  std::optional<ErrorCode> failureCode;
  bool isRetiring = false;
  /** The context that the handler gets. */
  Context context{*this};

  /** Parses a frame. Throws an exception if it is not a valid call; the connection cannot be read any further. */
  static std::unique_ptr<Call> read(std::shared_ptr<Connection> from, std::string&& frame);

  /** Sends the reply, unless the call is oneway. */
  void answer(const std::string& frame) const;
  void refuse(ErrorCode code, apache::thrift::TApplicationException::TApplicationExceptionType type,
              const std::string& why) const;
};

/** The call that this thread works on; null for none. */
Call*& currentCall();

}  // namespace katamari::detail
