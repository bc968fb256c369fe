#include "shoal/ops/partials.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void sum_parts(const Exec& exec, const TensorView& out_C, const ConstTensorView& part_PC,
               Accumulate accumulate) {
  const std::int64_t C = out_C.elements();
  expect_tensor(out_C, {C}, DType::f32, "sum_parts out");
  expect_tensor(part_PC, {part_PC.dim(0), C}, DType::f32, "sum_parts part");
  if (exec.is_dry() || C == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::sum_parts(exec, out_C, part_PC, accumulate);
  }
  cpu::sum_parts(out_C, part_PC, accumulate);
}

}  // namespace shoal::ops
