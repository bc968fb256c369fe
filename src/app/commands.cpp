#include "shoal/app/commands.hpp"

#include <algorithm>

namespace shoal::app {

const std::vector<Command>& commands() {
  static const std::vector<Command> table;
  return table;
}

const Command* find_command(std::string_view name) {
  const auto& all = commands();
  const auto found =
      std::find_if(all.begin(), all.end(), [name](const Command& c) { return c.name == name; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace shoal::app
