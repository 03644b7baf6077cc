// Parses the addresses in KATAMARI_LISTEN and KATAMARI_MESH: `unix:PATH` or `tcp:HOST:PORT`.

#pragma once

#include <stdexcept>
#include <string>

namespace katamari::detail {

struct Address {
  /** "" for TCP. */
  std::string path;
  std::string host;
  int port = 0;
};

inline Address parseAddress(const std::string& text) {
  if (text.compare(0, 5, "unix:") == 0 && text.size() > 5) return {text.substr(5), "", 0};
  const auto colon = text.rfind(':');
  if (text.compare(0, 4, "tcp:") == 0 && colon > 4 && colon + 1 < text.size() && text.size() - colon <= 6 &&
      text.find_first_not_of("0123456789", colon + 1) == std::string::npos) {
    const int port = std::stoi(text.substr(colon + 1));
    auto host = text.substr(4, colon - 4);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (port <= 65535) return {"", host, port};
  }
  throw std::invalid_argument("\"" + text + "\" is not an address; expected unix:PATH or tcp:HOST:PORT");
}

}  // namespace katamari::detail
