#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "shoal/device/device.hpp"

namespace shoal {

/// Owner of one block of device memory, uninitialised. For tests, staging and tools: tensors of a
/// step come from the Arena.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceKind device, std::int64_t bytes);
  DeviceBuffer(DeviceBuffer&& o) noexcept
      : device_{o.device_},
        bytes_{std::exchange(o.bytes_, 0)},
        data_{std::exchange(o.data_, nullptr)} {}
  DeviceBuffer& operator=(DeviceBuffer&& o) noexcept {
    std::swap(device_, o.device_);
    std::swap(bytes_, o.bytes_);
    std::swap(data_, o.data_);
    return *this;
  }
  ~DeviceBuffer();
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  [[nodiscard]] DeviceKind device() const { return device_; }

 private:
  DeviceKind device_ = DeviceKind::cpu;
  std::int64_t bytes_ = 0;
  std::byte* data_ = nullptr;
};

/// Owner of host memory that transfers quickly to and from `partner` (page-locked for CUDA).
class HostBuffer {
 public:
  HostBuffer() = default;
  HostBuffer(DeviceKind partner, std::int64_t bytes);
  HostBuffer(HostBuffer&& o) noexcept
      : partner_{o.partner_},
        bytes_{std::exchange(o.bytes_, 0)},
        data_{std::exchange(o.data_, nullptr)} {}
  HostBuffer& operator=(HostBuffer&& o) noexcept {
    std::swap(partner_, o.partner_);
    std::swap(bytes_, o.bytes_);
    std::swap(data_, o.data_);
    return *this;
  }
  ~HostBuffer();
  [[nodiscard]] std::byte* data() const { return data_; }
  template <class T>
  [[nodiscard]] T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  DeviceKind partner_ = DeviceKind::cpu;
  std::int64_t bytes_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace shoal
