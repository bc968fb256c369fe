#pragma once
#include <string>

namespace shoal::comm {

/// Which algorithm and protocol NCCL uses. Left to itself it picks them by size and measured
/// speed, and with them the order of a sum; pinned, equal layouts give equal bits.
struct NcclPinning {
  std::string algorithm;
  std::string protocol;
  bool by_user = false;  ///< either was set before
};

/// Sets NCCL_ALGO = Ring and NCCL_PROTO = Simple unless the environment has them. Before the first
/// call of NCCL.
[[nodiscard]] NcclPinning pin_nccl();

/// "algorithm Ring, protocol Simple (pinned)".
[[nodiscard]] std::string describe(const NcclPinning& pinning);

}  // namespace shoal::comm
