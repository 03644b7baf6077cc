// Finds the includes and services of an IDL file. It parses only comments, literals, and the reserved words `include`
// and `service`. The Thrift compiler and the mesh check the rest. The mesh finds the files of the n-th include folder
// by their names, `-In/PATH` (core/idl/source.ts).

#include "idl.h"

#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace katamari::detail {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t filesMax = 100;
constexpr std::uintmax_t fileBytesMax = 4 * 1024 * 1024;

struct Declared {
  std::vector<std::string> includes;
  std::vector<std::string> services;
};

bool isWordChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; }

/** Returns the end of the comment or literal that begins at `at`; `at` itself if none begins there. */
std::size_t endOfCommentOrLiteral(const std::string& text, std::size_t at) {
  const auto behind = [&](const std::string& closing, std::size_t from) {
    const auto found = text.find(closing, from);
    return found == std::string::npos ? text.size() : found + closing.size();
  };
  if (text[at] == '#' || text.compare(at, 2, "//") == 0) return behind("\n", at);
  if (text.compare(at, 2, "/*") == 0) return behind("*/", at + 2);
  if (text[at] == '"' || text[at] == '\'') return behind(std::string(1, text[at]), at + 1);
  return at;
}

Declared scan(const std::string& text) {
  Declared found;
  std::string before;  // the word directly before `at`
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const auto end = endOfCommentOrLiteral(text, at);
    if (end != at) {
      const bool isLiteral = c == '"' || c == '\'';
      if (isLiteral && before == "include") found.includes.push_back(text.substr(at + 1, end - at - 2));
      if (isLiteral) before.clear();
      at = end;
    } else if (isWordChar(c)) {
      const auto start = at;
      while (at < text.size() && isWordChar(text[at])) at++;
      const auto word = text.substr(start, at - start);
      if (before == "service") found.services.push_back(word);
      before = word;
    } else {
      if (!std::isspace(static_cast<unsigned char>(c))) before.clear();
      at++;
    }
  }
  return found;
}

std::string readText(const fs::path& file) {
  std::error_code failed;
  const auto bytes = fs::file_size(file, failed);
  if (failed)
    throw std::runtime_error("Cannot read the IDL file \"" + file.string() + "\": " + failed.message() +
                             ". Relative paths are looked up from the working directory, then beside the program");
  if (bytes > fileBytesMax)
    throw std::runtime_error("The IDL file \"" + file.string() + "\" has " + std::to_string(bytes) +
                             " bytes, the limit is " + std::to_string(fileBytesMax));
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in || text.str().size() != bytes) throw std::runtime_error("Cannot read the IDL file \"" + file.string() + "\"");
  return text.str();
}

class Reader {
 public:
  Reader(const fs::path& main, const std::vector<fs::path>& includes) {
    idl_.main = main.filename().string();
    folders_.emplace_back("", main.parent_path());
    for (const auto& folder : includes) {
      if (!fs::is_directory(folder))
        throw std::runtime_error("The include folder \"" + folder.string() + "\" does not exist, or is not a folder");
      folders_.emplace_back("-I" + std::to_string(folders_.size()) + "/", folder);
    }
  }

  Idl read() {
    const auto declared = load(idl_.main);
    idl_.services = declared.services;
    return idl_;
  }

 private:
  Declared load(const std::string& name) {
    if (idl_.files.size() >= filesMax)
      throw std::runtime_error(idl_.main + " includes more than " + std::to_string(filesMax) + " files, which is the limit");
    const auto& text = idl_.files[name] = readText(pathOf(name));
    const auto declared = scan(text);
    for (const auto& wanted : declared.includes) include(name, wanted);
    return declared;
  }

  /**
   * Finds an include as the Thrift compiler does: beside the including file, then in the include folders; then beside
   * the main file.
   */
  void include(const std::string& from, const std::string& wanted) {
    const auto normal = [](const fs::path& path) { return path.lexically_normal().generic_string(); };
    const auto& root = folderOf(from).first;
    std::vector<std::string> names{root + normal(fs::path(from.substr(root.size())).parent_path() / wanted)};
    for (const auto& folder : folders_)
      if (!folder.first.empty()) names.push_back(folder.first + normal(wanted));
    names.push_back(normal(wanted));
    for (const auto& name : names) {
      if (idl_.files.count(name) != 0) return;
      if (!fs::is_regular_file(pathOf(name))) continue;
      load(name);
      return;
    }
    throw std::runtime_error(from + " includes \"" + wanted +
                             "\", which was found neither beside it, nor in an include folder, nor beside the main file");
  }

  /** Returns the prefix of the include folder that the file is in, and that folder; the first pair for none. */
  const std::pair<std::string, fs::path>& folderOf(const std::string& name) const {
    for (const auto& folder : folders_)
      if (!folder.first.empty() && name.compare(0, folder.first.size(), folder.first) == 0) return folder;
    return folders_.front();
  }

  fs::path pathOf(const std::string& name) const {
    const auto& folder = folderOf(name);
    return folder.second / name.substr(folder.first.size());
  }

  /** The folder of the main file under "", then the include folders by the prefixes of their files. */
  std::vector<std::pair<std::string, fs::path>> folders_;
  Idl idl_;
};

/** Returns the folder of this program; "" if it is unknown. */
fs::path programFolder() {
  std::error_code failed;
  const auto program = fs::read_symlink("/proc/self/exe", failed);
  return failed ? fs::path() : program.parent_path();
}

/** Looks a path up from the working directory, then beside the program. */
fs::path find(const std::string& path) {
  const auto beside = programFolder() / path;
  return fs::exists(path) || !fs::exists(beside) ? fs::path(path) : beside;
}

}  // namespace

Idl readIdl(const std::string& path, const std::vector<std::string>& includes) {
  std::vector<fs::path> folders;
  for (const auto& folder : includes) folders.push_back(find(folder));
  return Reader(find(path), folders).read();
}

}  // namespace katamari::detail
