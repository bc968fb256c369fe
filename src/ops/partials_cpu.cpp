#include "shoal/ops/partials.hpp"

namespace shoal::ops::cpu {

void sum_parts(const TensorView& out_C, const ConstTensorView& part_PC, Accumulate accumulate) {
  float* out = out_C.data<float>();
  const float* part = part_PC.data<float>();
  const std::int64_t columns = out_C.elements();
  if (accumulate == Accumulate::overwrite) std::fill_n(out, columns, 0.0F);
  for (std::int64_t p = 0; p < part_PC.dim(0); ++p, part += columns) {
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) out[c] += part[c];
  }
}

}  // namespace shoal::ops::cpu
