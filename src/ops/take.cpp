#include "shoal/ops/take.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void take(const Exec& exec, const Take& a) {
  expect_tensor(a.out, a.index.shape(), DType::f32, "out");
  expect_tensor(a.index, a.out.shape(), DType::i32, "index");
  expect_tensor(a.values, a.values.shape(), DType::f32, "values");
  if (exec.is_dry() || a.out.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::take(exec, a);
  }
  cpu::take(exec, a);
}

}  // namespace shoal::ops
