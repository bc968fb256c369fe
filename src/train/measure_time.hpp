#pragma once
#include <functional>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/exec.hpp"

namespace shoal::train {

/// Seconds of one call of `work`, the best of several rounds, for other work on the machine only
/// adds time; in each round all ranks start together and the slowest counts. Collective over
/// `world`; waits for the device.
[[nodiscard]] double time_of(const Exec& exec, const Communicator& world,
                             const std::function<void()>& work);

/// The same with each call timed by itself and, on the CPU, operands that no core has at hand.
[[nodiscard]] double cold_time_of(const Exec& exec, const Communicator& world,
                                  const std::function<void()>& work, int rounds = 9);

/// seconds = first_s * first + second_s * second.
struct Sample {
  double first = 0.0, second = 0.0, seconds = 0.0;
};
struct Fit {
  double first_s = 0.0, second_s = 0.0;
};
/// Least squares of the relative error; neither factor is negative.
[[nodiscard]] Fit fit_times(const std::vector<Sample>& samples);

}  // namespace shoal::train
