// The name of this process in the log: KATAMARI_RESOURCE, or service and version. Set once, before threads start.

#pragma once

#include <string>

namespace katamari::detail {

std::string& resourceName();

}  // namespace katamari::detail
