#include "comm/gpu_place.hpp"

#include "shoal/device/check.hpp"

namespace shoal::comm::cuda {

std::string current_pci_bus_id() {
  int device = 0;
  shoal::cuda::check(cudaGetDevice(&device));
  char text[32] = {};
  shoal::cuda::check(cudaDeviceGetPCIBusId(text, sizeof text, device));
  return text;
}

}  // namespace shoal::comm::cuda
