#pragma once
#include "shoal/comm/communicator.hpp"
#include "shoal/device/exec.hpp"
#include "shoal/tensor/dtype.hpp"
#include "shoal/train/calibration.hpp"

namespace shoal::train {

/// Memory that the timed ops need.
[[nodiscard]] ArenaPlan calibration_memory(DeviceKind device);
/// Speeds of the ops of a step with activations and weights of dtype `elem`. Collective.
[[nodiscard]] ComputeRates measure_rates(const Exec& exec, DType elem, const Communicator& world);

}  // namespace shoal::train
