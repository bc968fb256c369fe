#pragma once
#include "shoal/comm/communicator.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/train/calibration.hpp"

namespace shoal::train {

/// Latency and bandwidth of each kind of message in `group`, which has at least two ranks; ranks of
/// other groups of `world` talk at the same time. Collective over `world`.
[[nodiscard]] LinkSet measure_links(const Exec& exec, const Communicator& group,
                                    const Communicator& world);

}  // namespace shoal::train
