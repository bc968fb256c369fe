#pragma once
// Random tensors on the GPU and a comparison of two results.
#include <cmath>
#include <cstdio>
#include <vector>

#include "bench/timing.hpp"
#include "ops/cuda_common.cuh"
#include "shoal/device/exec.hpp"
#include "shoal/tensor/tensor.hpp"

namespace shoal::bench {

static __global__ void fill_kernel(__nv_bfloat16* bf16, __half* f16, std::int64_t n, float scale,
                                   unsigned seed) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    auto x = static_cast<unsigned>(i) * 2654435761U ^ seed;
    float sum = 0.0F;
    for (int round = 0; round < 4; ++round) {
      x ^= x >> 16;
      x *= 0x7feb352dU;
      x ^= x >> 15;
      x *= 0x846ca68bU;
      x ^= x >> 16;
      sum += static_cast<float>(x) * 2.3283064e-10F - 0.5F;
    }
    const float value = sum * 1.7320508F * scale;  // standard deviation: scale
    if (bf16 != nullptr) bf16[i] = __float2bfloat16_rn(value);
    if (f16 != nullptr) f16[i] = __float2half_rn(value);
  }
}

/// About normal values.
[[nodiscard]] inline Tensor random_tensor(const Exec& exec, const Shape& shape, DType dtype,
                                          unsigned seed, float scale = 1.0F) {
  Tensor t{DeviceKind::cuda, shape, dtype};
  auto* data = t.view().bytes_begin();
  fill_kernel<<<1024, 256, 0, exec.cuda().stream>>>(
      dtype == DType::bf16 ? reinterpret_cast<__nv_bfloat16*>(data) : nullptr,
      dtype == DType::f16 ? reinterpret_cast<__half*>(data) : nullptr, shape.elements(), scale,
      seed * 0x9e3779b9U);
  return t;
}

/// Bytes 0x7f: NaN in bf16, f16 and fp32.
inline void poison(const Exec& exec, const TensorView& t) {
  shoal::cuda::check(cudaMemsetAsync(t.bytes_begin(), 0x7f, static_cast<std::size_t>(t.bytes()),
                                     exec.cuda().stream));
}

struct Difference {
  double relative = 0.0;       ///< ||x - reference|| / ||reference||
  std::int64_t not_equal = 0;  ///< elements that differ in any bit; NaN counts
};

template <class Elem>
__global__ void difference_kernel(double* partials, const Elem* x, const Elem* reference,
                                  std::int64_t n) {
  __shared__ double shared[3][256];
  double sum[3] = {};
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    const double a = ops::cuda::to_float(x[i]), b = ops::cuda::to_float(reference[i]);
    const bool equal = a == b || (a != a && b != b);
    if (!equal) sum[0] += (a - b) * (a - b);
    if (isfinite(b)) sum[1] += b * b;
    if (!equal) sum[2] += 1.0;
  }
  for (int k = 0; k < 3; ++k) shared[k][threadIdx.x] = sum[k];
  __syncthreads();
  if (threadIdx.x < 3) {
    double total = 0.0;
    for (int i = 0; i < 256; ++i) total += shared[threadIdx.x][i];
    partials[blockIdx.x * 3 + threadIdx.x] = total;
  }
}

/// NaN on both sides (elements that nobody may write) counts as equal.
[[nodiscard]] inline Difference compare(const Exec& exec, const Tensor& x,
                                        const Tensor& reference) {
  constexpr int kBlocks = 512;
  std::vector<double> host(kBlocks * 3);
  const auto bytes = static_cast<std::int64_t>(host.size() * sizeof(double));
  const Tensor partials{DeviceKind::cuda, {bytes}, DType::u8};
  ops::cuda::with_device_elem(x.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    difference_kernel<Elem><<<kBlocks, 256, 0, exec.cuda().stream>>>(
        reinterpret_cast<double*>(partials.view().bytes_begin()),
        ops::cuda::device_data<Elem>(ConstTensorView{x}),
        ops::cuda::device_data<Elem>(ConstTensorView{reference}), x.shape().elements());
  });
  download(exec, host.data(), partials.view().bytes_begin(), bytes);
  exec.synchronize();
  double sum[3] = {};
  for (std::size_t i = 0; i < host.size(); ++i) sum[i % 3] += host[i];
  return {.relative = std::sqrt(sum[0] / (sum[1] > 0.0 ? sum[1] : 1.0)),
          .not_equal = static_cast<std::int64_t>(sum[2])};
}

}  // namespace shoal::bench
