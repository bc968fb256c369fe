#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "shoal/device/device.hpp"
#include "shoal/device/exec.hpp"

namespace shoal::cuda {

struct ContextOwner;  // stream, handles and workspace, released together
[[nodiscard]] std::shared_ptr<ContextOwner> make_context(CudaContext& context);
void synchronize(const CudaContext& context);
void copy_async(const CudaContext& context, void* target, const void* source, std::int64_t bytes);
void zero_async(const CudaContext& context, void* target, std::int64_t bytes);
[[nodiscard]] int device_count();
[[nodiscard]] DeviceInfo info();
void select(int index);

}  // namespace shoal::cuda
