#include "ops/cuda_common.cuh"
#include "shoal/ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kWarps = 32;  // of a block; with 512 parts each adds 16

/// One lane a column. Warp w adds the parts w, w + kWarps, ... in order, then the first warp adds
/// the sums of all warps in order.
__global__ void __launch_bounds__(kWarpSize* kWarps)
    sum_parts_kernel(float* out_C, const float* part_PC, std::int64_t parts, std::int64_t columns,
                     bool add) {
  __shared__ float sums[kWarps][kWarpSize];
  const std::int64_t c = std::int64_t{blockIdx.x} * kWarpSize + threadIdx.x;
  float sum = 0.0F;
  if (c < columns) {
#pragma unroll 8
    for (std::int64_t p = threadIdx.y; p < parts; p += kWarps) sum += part_PC[p * columns + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || c >= columns) return;
  for (int warp = 1; warp < kWarps; ++warp) sum += sums[warp][threadIdx.x];
  out_C[c] = add ? out_C[c] + sum : sum;
}

}  // namespace

void sum_parts(const Exec& exec, const TensorView& out_C, const ConstTensorView& part_PC,
               Accumulate accumulate) {
  const std::int64_t columns = out_C.elements();
  if (columns == 0) return;
  const dim3 block{kWarpSize, kWarps};
  sum_parts_kernel<<<blocks_for(columns, kWarpSize), block, 0, exec.cuda().stream>>>(
      out_C.data<float>(), part_PC.data<float>(), part_PC.dim(0), columns,
      accumulate == Accumulate::add);
  check_launch();
}

}  // namespace shoal::ops::cuda
