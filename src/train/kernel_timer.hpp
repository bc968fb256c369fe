#pragma once
#include <functional>

#include "shoal/device/exec.hpp"

namespace shoal::train {

/// Seconds of one call of `work`: the median of several rounds of calls in a row, each round long
/// enough that its start and end do not count. Waits for the device. A dry Exec calls once: 0.
[[nodiscard]] double median_time_of(const Exec& exec, const std::function<void()>& work);

}  // namespace shoal::train
