#include "shoal/base/error.hpp"

namespace shoal {

void fail(std::string_view api, std::string_view text, Where at) {
  std::string message{at.file_name()};
  if (const auto cut = message.rfind("/src/"); cut != std::string::npos) message.erase(0, cut + 1);
  message += ":" + std::to_string(at.line()) + ": ";
  message.append(api).append(": ").append(text);
  throw Error{message};
}

void require(bool condition, std::string_view text) {
  if (!condition) throw InputError{std::string{text}};
}

}  // namespace shoal
