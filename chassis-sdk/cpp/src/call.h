// One call from the mesh, from the frame that brought it to its answer.

#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server.h"
#include "wire.h"

namespace katamari::detail {

struct Call {
  std::shared_ptr<Connection> from;
  /**
   * The frame. From `start` on it holds what the generated code reads: the head with the method's plain name, the
   * method's own arguments.
   */
  std::string bytes;
  std::size_t start = 0;
  /** As in `Service@version:method`; "" when only the method was named. */
  std::string service;
  std::string method;
  std::int32_t seqId = 0;
  bool isOneway = false;
  /** It brought a context, and so its answer may. */
  bool isFromMesh = false;
  CallContext facts;
  std::chrono::steady_clock::time_point deadline;

  /** The generated code has read the arguments. */
  bool wasRead = false;
  /** What its handler threw undeclared; "" for nothing. */
  std::string failure;
  bool isRetiring = false;
  /** What its handler sees of it. */
  Context context{*this};

  /** Throws what says why the frame is no call; nothing sensible can come behind it. */
  static std::unique_ptr<Call> read(std::shared_ptr<Connection> from, std::string&& frame);

  /** Sends its answer, unless it wants none. */
  void answer(const std::string& frame) const;
  void refuse(ErrorCode code, apache::thrift::TApplicationException::TApplicationExceptionType type,
              const std::string& why) const;
};

/** The call that this thread works on. */
Call*& currentCall();

}  // namespace katamari::detail
