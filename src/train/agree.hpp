#pragma once
#include <functional>
#include <string>

#include "shoal/comm/communicator.hpp"

namespace shoal::train {

/// Runs `work` on the first rank and gives its text to all. When it throws, every rank throws an
/// error of the same kind and text, so that none waits for the others.
[[nodiscard]] std::string on_root(const Communicator& world,
                                  const std::function<std::string()>& work);

}  // namespace shoal::train
