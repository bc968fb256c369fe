#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"

namespace shoal::train {

/// Where a rank runs: its index among the ranks of its host, and its share of the host's cores.
struct HostPlace {
  int index = 0;
  std::int64_t threads = 1;  ///< cores that the ranks of the host may use / ranks, and not more
                             ///< than this rank may use itself
};
/// Collective.
[[nodiscard]] HostPlace find_place(const Communicator& world);

/// The pure part: `cores` holds for each rank of the host a text with '1' for every core that it
/// may use and '0' for the others.
[[nodiscard]] std::int64_t fair_threads(const std::vector<std::string>& cores, std::size_t mine);

}  // namespace shoal::train
