#include "shoal/device/exec.hpp"

#include <unistd.h>
#include <cstring>
#include <fstream>
#include <string>

#include "device/cuda_context.hpp"
#include "shoal/base/error.hpp"

namespace shoal {
namespace {

std::string processor_name() {
  std::ifstream info{"/proc/cpuinfo"};
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

}  // namespace

int cuda_device_count() {
  if constexpr (kHasCuda) return cuda::device_count();
  return 0;
}

DeviceInfo device_info(DeviceKind kind) {
  if constexpr (kHasCuda) {
    if (kind == DeviceKind::cuda) return cuda::info();
  }
  const std::int64_t page = sysconf(_SC_PAGESIZE);
  return {.name = processor_name(),
          .total_bytes = sysconf(_SC_PHYS_PAGES) * page,
          .free_bytes = sysconf(_SC_AVPHYS_PAGES) * page};
}

void select_cuda_device(int index) {
  require(index >= 0 && index < cuda_device_count(), "GPU " + std::to_string(index) +
                                                         " does not exist: this process sees " +
                                                         std::to_string(cuda_device_count()));
  if constexpr (kHasCuda) cuda::select(index);
}

struct Exec::CudaOwner {
  std::shared_ptr<void> context;
};

Exec::Exec(DeviceKind device)
    : device_{device},
      arena_{std::make_unique<Arena>(device)},
      cuda_{std::make_unique<CudaContext>()} {}

Exec::Exec(DeviceKind device, const ArenaPlan& plan) : Exec{device} {
  if (device == DeviceKind::cuda) {
    require(cuda_device_count() > 0, "device = cuda: no GPU here (is this a CPU-only build?)");
    if constexpr (kHasCuda) {
      owner_ = std::make_shared<CudaOwner>(CudaOwner{cuda::make_context(*cuda_)});
    }
  }
  arena_ = std::make_unique<Arena>(device, plan);
}

Exec Exec::dry(DeviceKind device) {
  return Exec{device};
}
Exec::Exec(Exec&&) noexcept = default;
Exec& Exec::operator=(Exec&&) noexcept = default;
Exec::~Exec() = default;

Exec Exec::beside() const {
  expect(on_gpu() && !is_dry(), "only a GPU works beside itself");
  Exec side{device_};
  if constexpr (kHasCuda) {
    side.owner_ = std::make_shared<CudaOwner>(CudaOwner{cuda::make_stream(*side.cuda_, *cuda_)});
  }
  side.arena_ = std::make_unique<Arena>(device_, ArenaPlan{});
  return side;
}

void Exec::synchronize() const {
  if (is_dry()) return;
  if constexpr (kHasCuda) {
    if (on_gpu()) cuda::synchronize(*cuda_);
  }
}

void copy(const Exec& exec, void* target, const void* source, std::int64_t bytes) {
  if (exec.is_dry() || bytes == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::copy_async(exec.cuda(), target, source, bytes);
  }
  std::memcpy(target, source, static_cast<std::size_t>(bytes));
}

void upload(const Exec& exec, void* device, const void* host, std::int64_t bytes) {
  copy(exec, device, host, bytes);
}

void download(const Exec& exec, void* host, const void* device, std::int64_t bytes) {
  copy(exec, host, device, bytes);
}

void zero(const Exec& exec, void* target, std::int64_t bytes) {
  if (exec.is_dry() || bytes == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::zero_async(exec.cuda(), target, bytes);
  }
  std::memset(target, 0, static_cast<std::size_t>(bytes));
}

}  // namespace shoal
