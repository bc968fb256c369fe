#include "shoal/ops/embedding.hpp"

#include "ops/contract.hpp"
#include "ops/embedding_scratch.hpp"

namespace shoal::ops {

void embedding_forward(const Exec& exec, const EmbeddingForward& a) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t D = a.table_VD.dim(1);
  expect_floating(a.table_VD, "table");
  expect_shape(a.table_VD, {a.table_VD.dim(0), D}, "table");
  expect_tensor(a.x_TD, {T, D}, a.table_VD.dtype(), "x");
  expect_tensor(a.token_T, {T}, DType::i32, "token");
  expect(a.first_id >= 0, "embedding: first_id must not be negative");
  if (exec.is_dry() || T * D == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::embedding_forward(exec, a);
  }
  cpu::embedding_forward(exec, a);
}

void embedding_backward(const Exec& exec, const EmbeddingBackward& a) {
  const std::int64_t T = a.token_T.dim(0);
  const std::int64_t D = a.dtable_VD.dim(1);
  expect_tensor(a.dtable_VD, {a.dtable_VD.dim(0), D}, DType::f32, "dtable");
  expect_floating(a.dx_TD, "dx");
  expect_shape(a.dx_TD, {T, D}, "dx");
  expect_tensor(a.token_T, {T}, DType::i32, "token");
  expect(a.first_id >= 0, "embedding: first_id must not be negative");
  const ScratchScope scope{exec};
  EmbeddingScratch scratch;  // taken before the dry return: the plan counts it
  if (exec.on_gpu()) scratch = embedding_scratch(exec, T, a.dtable_VD.dim(0), D);
  if (exec.is_dry()) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu() && T * D > 0) return cuda::embedding_backward(exec, a, scratch);
  }
  if (a.accumulate == Accumulate::overwrite) zero(exec, a.dtable_VD);
  if (T * D == 0) return;
  cpu::embedding_backward(exec, a);
}

}  // namespace shoal::ops
