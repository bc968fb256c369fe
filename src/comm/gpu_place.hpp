#pragma once
#include <string>

#include "shoal/device/device.hpp"

namespace shoal::comm {

namespace cuda {
[[nodiscard]] std::string current_pci_bus_id();
}

/// PCI bus id of the current GPU; empty on the CPU.
[[nodiscard]] inline std::string gpu_place(DeviceKind device) {
  if constexpr (kHasCuda) {
    if (device == DeviceKind::cuda) return cuda::current_pci_bus_id();
  }
  return {};
}

}  // namespace shoal::comm
