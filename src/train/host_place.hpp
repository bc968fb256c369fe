#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/arena.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// Where a rank runs: its index among the ranks of its host, and its share of the host's cores.
struct HostPlace {
  int index = 0;
  std::int64_t threads = 1;  ///< cores that the ranks of the host may use / ranks, and not more
                             ///< than this rank may use itself
};
/// Collective.
[[nodiscard]] HostPlace find_place(const Communicator& world);

/// Gives this rank its GPU and its threads: as asked for, else by OMP_NUM_THREADS, else its share
/// of the cores. Returns the number of threads. Collective.
std::int64_t take_place(const TrainingConfig& config, const Communicator& world);

/// InputError, with the way out, where the device does not have this much memory free.
void require_device_memory(DeviceKind device, const ArenaPlan& memory);

/// The pure part: `cores` holds for each rank of the host a text with '1' for every core that it
/// may use and '0' for the others.
[[nodiscard]] std::int64_t fair_threads(const std::vector<std::string>& cores, std::size_t mine);

}  // namespace shoal::train
