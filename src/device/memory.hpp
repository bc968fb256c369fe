#pragma once
#include <cstddef>
#include <cstdint>

#include "shoal/device/device.hpp"

namespace shoal {

/// Plain device allocation; throws Error with the size and the device's own text.
[[nodiscard]] std::byte* allocate_device(DeviceKind device, std::int64_t bytes);
void free_device(DeviceKind device, std::byte* pointer) noexcept;

namespace cuda {
[[nodiscard]] std::byte* allocate(std::int64_t bytes);
void free(std::byte* pointer) noexcept;
[[nodiscard]] std::byte* allocate_pinned(std::int64_t bytes);
void free_pinned(std::byte* pointer) noexcept;
}  // namespace cuda
}  // namespace shoal
