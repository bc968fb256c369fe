#pragma once
#include "shoal/comm/communicator.hpp"
#include "shoal/train/calibration.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// A model small enough to time in a second and large enough to be at the device's speed.
[[nodiscard]] RunConfig reference_run(DeviceKind device, const std::string& precision);

/// Seconds of one micro-batch of `config` forward and backward, the whole model on this rank; all
/// ranks at once. Collective.
[[nodiscard]] double measure_micro_batch(const RunConfig& config, DeviceKind device,
                                         const Communicator& world);

/// Measured over predicted time of the reference micro-batch: what the parts, each timed alone,
/// leave out (small ops, colder caches, launches). At least 0.5, at most 2.
[[nodiscard]] double whole_pass_factor(const Calibration& parts, DeviceKind device,
                                       const Communicator& world);

/// All ops slower by `factor`; links as they are.
[[nodiscard]] ComputeRates slowed(const ComputeRates& rates, double factor);

}  // namespace shoal::train
