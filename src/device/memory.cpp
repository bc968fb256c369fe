#include "device/memory.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <string>

#include "shoal/base/error.hpp"
#include "shoal/base/math.hpp"
#include "shoal/device/buffer.hpp"

namespace shoal {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kLargePage = std::int64_t{2} << 20;

/// Host memory; from a few large pages on it asks for those, so that strided passes find their
/// addresses in the translation cache. A system that refuses changes nothing but the speed.
void* allocate_host(std::int64_t bytes) {
  const bool large = bytes >= 2 * kLargePage;
  const std::int64_t alignment = large ? kLargePage : kPage;
  void* pointer = std::aligned_alloc(alignment, round_up(bytes, alignment));
#if defined(__linux__)
  if (large && pointer != nullptr)
    (void)madvise(pointer, round_up(bytes, alignment), MADV_HUGEPAGE);
#endif
  return pointer;
}

}  // namespace

std::byte* allocate_device(DeviceKind device, std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  if constexpr (kHasCuda) {
    if (device == DeviceKind::cuda) return cuda::allocate(bytes);
  }
  void* pointer = allocate_host(bytes);
  if (pointer == nullptr) fail("memory", "cannot allocate " + std::to_string(bytes) + " bytes");
  return static_cast<std::byte*>(pointer);
}

void free_device(DeviceKind device, std::byte* pointer) noexcept {
  if constexpr (kHasCuda) {
    if (device == DeviceKind::cuda) return cuda::free(pointer);
  }
  std::free(pointer);
}

DeviceBuffer::DeviceBuffer(DeviceKind device, std::int64_t bytes)
    : device_{device}, bytes_{bytes}, data_{allocate_device(device, bytes)} {}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) free_device(device_, data_);
}

HostBuffer::HostBuffer(DeviceKind partner, std::int64_t bytes) : partner_{partner}, bytes_{bytes} {
  if (bytes == 0) return;
  if constexpr (kHasCuda) {
    if (partner == DeviceKind::cuda) {
      data_ = cuda::allocate_pinned(bytes);
      return;
    }
  }
  data_ = allocate_device(DeviceKind::cpu, bytes);
}

HostBuffer::~HostBuffer() {
  if (data_ == nullptr) return;
  if constexpr (kHasCuda) {
    if (partner_ == DeviceKind::cuda) {
      cuda::free_pinned(data_);
      return;
    }
  }
  free_device(DeviceKind::cpu, data_);
}

}  // namespace shoal
