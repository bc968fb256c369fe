#include "shoal/ops/vocab_cross_entropy.hpp"

#include "ops/contract.hpp"

namespace shoal::ops {

void vocab_terms(const Exec& exec, const VocabTerms& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
  expect_floating(a.logits_TV, "logits");
  expect_shape(a.logits_TV, {T, V}, "logits");
  expect_tensor(a.terms_T3, {T, 3}, DType::f32, "terms");
  expect_tensor(a.target_T, {T}, DType::i32, "target");
  expect(a.first_id >= 0 && V >= 1, "vocab_terms: a rank holds at least one column");
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::vocab_terms(exec, a);
  }
  cpu::vocab_terms(exec, a);
}

void vocab_cross_entropy(const Exec& exec, const VocabCrossEntropy& a) {
  const std::int64_t T = a.logits_TV.dim(0), V = a.logits_TV.dim(1);
  expect_floating(a.logits_TV, "logits");
  expect_shape(a.logits_TV, {T, V}, "logits");
  expect_tensor(a.terms_RT3, {a.terms_RT3.dim(0), T, 3}, DType::f32, "terms");
  expect_tensor(a.loss_T, {T}, DType::f32, "loss");
  expect_tensor(a.target_T, {T}, DType::i32, "target");
  expect_tensor(a.mask_T, {T}, DType::u8, "mask");
  expect_optional(a.grad_scale, {1}, DType::f32, "grad_scale");
  expect(a.first_id >= 0 && V >= 1, "vocab_cross_entropy: a rank holds at least one column");
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::vocab_cross_entropy(exec, a);
  }
  cpu::vocab_cross_entropy(exec, a);
}

}  // namespace shoal::ops
