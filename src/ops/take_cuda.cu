// One thread an element.
#include "ops/cuda_common.cuh"
#include "shoal/ops/take.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    take_kernel(float* out, const float* values, const std::int32_t* index, std::int64_t count) {
  const std::int64_t i = thread_index();
  if (i < count) out[i] = index[i] < 0 ? 0.0F : values[index[i]];
}

}  // namespace

void take(const Exec& exec, const Take& a) {
  const std::int64_t count = a.out.elements();
  take_kernel<<<blocks_for(count, kThreads), kThreads, 0, exec.cuda().stream>>>(
      device_data<float>(a.out), device_data<float>(a.values), device_data<std::int32_t>(a.index),
      count);
  check_launch();
}

}  // namespace shoal::ops::cuda
