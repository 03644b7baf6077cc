// Writes log lines to standard error. Each line is one write, so that lines of several threads do not mix. The
// resource manager reads them by line.

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <unistd.h>

#include "katamari/chassis.h"
#include "log.h"

namespace katamari {

namespace {

const char* word(Level level) {
  switch (level) {
    case Level::info: return "info";
    case Level::warning: return "warning";
    case Level::error: return "error";
  }
  return "";
}

/** UTC with milliseconds: `2026-01-31T09:30:00.125Z`. */
std::string timeNow() {
  const auto now = std::chrono::system_clock::now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  const auto seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(ms));
  return text;
}

}  // namespace

std::string& detail::resourceName() {
  static std::string name = "chassis";
  return name;
}

LogLine::~LogLine() {
  try {
    const auto line = timeNow() + ' ' + word(level_) + ' ' + detail::resourceName() + ": " + text_.str() + '\n';
    for (std::size_t at = 0; at < line.size();) {
      const auto written = ::write(STDERR_FILENO, line.data() + at, line.size() - at);
      if (written <= 0) return;
      at += static_cast<std::size_t>(written);
    }
  } catch (const std::exception&) {
    // A failure of the log must not end the call.
  }
}

}  // namespace katamari
