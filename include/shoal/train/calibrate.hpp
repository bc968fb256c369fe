#pragma once
#include <string>

#include "shoal/comm/communicator.hpp"
#include "shoal/device/device.hpp"
#include "shoal/train/calibration.hpp"

namespace shoal::train {

struct CalibrateOptions {
  DeviceKind device = DeviceKind::cpu;
  std::string precision = "fp32";  ///< of the timed products: fp32 | bf16 | fp16
};

/// Times the ops of a step on this device and the collectives between these ranks, all ranks at
/// once, as in a run; the slowest rank counts. A few seconds. Links that these ranks do not have
/// (a single rank, a single host) are the published figures and marked as not measured. Collective;
/// the same result on every rank.
[[nodiscard]] Calibration calibrate(const CalibrateOptions& options, const Communicator& world);

}  // namespace shoal::train
