// What the log calls this process: KATAMARI_RESOURCE, or service and version. Set once, before there are threads.

#pragma once

#include <string>

namespace katamari::detail {

std::string& resourceName();

}  // namespace katamari::detail
