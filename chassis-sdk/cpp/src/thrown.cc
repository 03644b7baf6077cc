// See thrown.h.

#include "thrown.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <typeinfo>

#include <cxxabi.h>

namespace katamari::detail {

Thrown currentException() {
  try {
    throw;
  } catch (const std::exception& error) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> name(
        abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &status), std::free);
    return {status == 0 ? name.get() : typeid(error).name(), error.what()};
  } catch (const std::string& text) {
    return {"std::string", text};
  } catch (const char* text) {
    return {"const char*", text};
  } catch (...) {
    return {"unknown type", "the handler threw a value that is not a std::exception"};
  }
}

}  // namespace katamari::detail
