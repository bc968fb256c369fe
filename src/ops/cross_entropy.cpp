#include "shoal/ops/cross_entropy.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void cross_entropy(const Exec& exec, const CrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0);
  expect_floating(a.logits_TV, "logits");
  expect_shape(a.logits_TV, {T, a.logits_TV.dim(1)}, "logits");
  expect_tensor(a.loss_T, {T}, DType::f32, "loss");
  expect_tensor(a.target_T, {T}, DType::i32, "target");
  expect_tensor(a.mask_T, {T}, DType::u8, "mask");
  expect_optional(a.grad_scale, {1}, DType::f32, "grad_scale");
  if (exec.is_dry() || a.logits_TV.elements() == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::cross_entropy(exec, a);
  }
  cpu::cross_entropy(exec, a);
}

}  // namespace shoal::ops
