#pragma once
#include <functional>
#include <string>

#include "shoal/comm/communicator.hpp"

namespace shoal::train {

/// Runs `work` on the first rank and gives its text to all. When it throws, every rank throws an
/// error of the same kind and text, so that none waits for the others.
[[nodiscard]] std::string on_root(const Communicator& world,
                                  const std::function<std::string()>& work);
/// Runs `work` on every rank. When it throws on any, all throw the error of the first such rank
/// after everyone has ended its work.
void on_every_rank(const Communicator& world, const std::function<void()>& work);

}  // namespace shoal::train
