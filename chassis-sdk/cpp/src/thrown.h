// A caught exception, of any type.

#pragma once

#include <string>

namespace katamari::detail {

/** Its type for the log, its message for the caller. */
struct Thrown {
  std::string type;
  std::string message;
};

/** Returns the exception of the current catch clause. */
Thrown currentException();

}  // namespace katamari::detail
