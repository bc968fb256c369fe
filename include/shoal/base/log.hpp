#pragma once
#include <functional>
#include <string_view>

namespace shoal::log {

enum class Level { info, warning, error };
using Sink = std::function<void(Level, std::string_view)>;

/// Where messages go; set once in main (rank 0 prints, other ranks stay silent or use a file).
/// The sink is the one process-wide state of the program.
void set_sink(Sink sink);
void info(std::string_view text);
void warning(std::string_view text);
void error(std::string_view text);

}  // namespace shoal::log
