#pragma once
#include <cstdint>
#include <string>

namespace shoal {

/// True in a build with the CUDA back end. `if constexpr (kHasCuda)` keeps CPU-only builds free of
/// references to `cuda::` functions.
inline constexpr bool kHasCuda = SHOAL_HAS_CUDA != 0;

enum class DeviceKind { cpu, cuda };

struct DeviceInfo {
  std::string name;              ///< "NVIDIA H200", or the host's processor
  std::int64_t total_bytes = 0;  ///< memory of the device
  std::int64_t free_bytes = 0;   ///< as the device itself reports it now
  int multiprocessors = 0;       ///< 0 on the CPU
};

/// GPUs that this process can use; 0 in a CPU-only build or without a driver.
[[nodiscard]] int cuda_device_count();
[[nodiscard]] DeviceInfo device_info(DeviceKind kind);
/// Makes GPU `index` the current one of this process; throws InputError when there is none such.
void select_cuda_device(int index);

}  // namespace shoal
