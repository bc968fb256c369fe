#include "ops/cuda_common.cuh"
#include "ops/partials.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 128;

/// One thread a column; parts in order.
__global__ void sum_parts_kernel(float* out_C, const float* part_PC, std::int64_t parts,
                                 std::int64_t columns, bool add) {
  const std::int64_t c = thread_index();
  if (c >= columns) return;
  float sum = add ? out_C[c] : 0.0F;
#pragma unroll 8
  for (std::int64_t p = 0; p < parts; ++p) sum += part_PC[p * columns + c];
  out_C[c] = sum;
}

}  // namespace

void sum_parts(const Exec& exec, const TensorView& out_C, const ConstTensorView& part_PC,
               Accumulate accumulate) {
  const std::int64_t columns = out_C.elements();
  if (columns == 0) return;
  sum_parts_kernel<<<blocks_for(columns, kThreads), kThreads, 0, exec.cuda().stream>>>(
      out_C.data<float>(), part_PC.data<float>(), part_PC.dim(0), columns,
      accumulate == Accumulate::add);
  check_launch();
}

}  // namespace shoal::ops::cuda
