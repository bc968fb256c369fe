#include "shoal/base/log.hpp"

#include <iostream>
#include <utility>

namespace shoal::log {
namespace {

void print(Level level, std::string_view text) {
  if (level == Level::info) {
    std::cout << text << '\n' << std::flush;
  } else {
    std::cerr << (level == Level::warning ? "warning: " : "error: ") << text << '\n' << std::flush;
  }
}

Sink& sink() {
  static Sink current{print};
  return current;
}

}  // namespace

void set_sink(Sink next) {
  sink() = next ? std::move(next) : Sink{print};
}
void info(std::string_view text) {
  sink()(Level::info, text);
}
void warning(std::string_view text) {
  sink()(Level::warning, text);
}
void error(std::string_view text) {
  sink()(Level::error, text);
}

}  // namespace shoal::log
