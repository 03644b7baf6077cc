// The text of an interface, the IDL file of a chassis and its includes, which `describe` returns.

#pragma once

#include <map>
#include <string>
#include <vector>

namespace katamari::detail {

struct Idl {
  /** Name of the main file among the files. */
  std::string main;
  /** Text by path, relative to the folder of the main file; `-In/PATH` for files of the n-th include folder. */
  std::map<std::string, std::string> files;
  /** The services that the main file declares. */
  std::vector<std::string> services;
};

/**
 * Reads the file, looked up from the working directory, then beside the program. Includes that are not beside the
 * including file are searched in the folders. Throws std::runtime_error that says what is wrong.
 */
Idl readIdl(const std::string& path, const std::vector<std::string>& includes);

}  // namespace katamari::detail
