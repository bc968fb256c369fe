#include "shoal/ops/head_gate.hpp"

#include "ops/contract.hpp"
#include "ops/head_gate_detail.hpp"

namespace shoal::ops {
namespace {

void expect_share(std::int64_t groups, const GroupShare& share) {
  expect(share.stride >= 1 && share.offset >= 0 && share.offset < share.stride &&
             groups % share.stride == 0,
         "head_gate: the ranks must divide the groups");
}

}  // namespace

void head_gate_forward(const Exec& exec, const HeadGateForward& a) {
  const std::int64_t T = a.x_TD.dim(0), D = a.x_TD.dim(1);
  expect_shape(a.x_TD, {T, D}, "x");
  expect_floating(a.x_TD, "x");
  expect_tensor(a.w_D, {D}, DType::f32, "w");
  expect_tensor(a.scalars, {2}, DType::f32, "scalars");
  expect_tensor(a.doc_start_T, {T}, DType::i32, "doc_start");
  expect_tensor(a.gate_T, {T}, DType::f32, "gate");
  expect_tensor(a.active_groups_T, {T}, DType::i32, "active_groups");
  expect_tensor(a.score_T, {T}, DType::f32, "score");
  expect(a.groups >= 1 && a.block >= 1 && a.max_position >= 1,
         "head_gate: groups, block and max_position must be positive");
  expect_share(a.groups, a.share);
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    if (exec.on_gpu()) (void)head_gate_block_sums(exec, a);
    return;
  }
  if (T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::head_gate_forward(exec, a);
  }
  cpu::head_gate_forward(exec, a);
}

void head_gate_backward(const Exec& exec, const HeadGateBackward& a) {
  const std::int64_t T = a.dx_TD.dim(0), D = a.dx_TD.dim(1), C = a.out_TC.dim(1);
  expect_tensor(a.dx_TD, {T, D}, a.x_TD.dtype(), "dx");
  expect_shape(a.x_TD, {T, D}, "x");
  expect_floating(a.x_TD, "x");
  expect_tensor(a.dout_TC, {T, C}, a.x_TD.dtype(), "dout");
  expect_tensor(a.out_TC, {T, C}, a.x_TD.dtype(), "out");
  expect_tensor(a.dw_D, {D}, DType::f32, "dw");
  expect_tensor(a.w_D, {D}, DType::f32, "w");
  expect_tensor(a.dscalars, {2}, DType::f32, "dscalars");
  expect_tensor(a.scalars, {2}, DType::f32, "scalars");
  expect_tensor(a.gate_T, {T}, DType::f32, "gate");
  expect_tensor(a.active_groups_T, {T}, DType::i32, "active_groups");
  expect_tensor(a.doc_start_T, {T}, DType::i32, "doc_start");
  expect_optional(a.budget_scale, {1}, DType::f32, "budget_scale");
  expect(a.groups >= 1 && a.block >= 1 && a.max_position >= 1,
         "head_gate: groups, block and max_position must be positive");
  expect_share(a.groups, a.share);
  expect(a.sequence >= 1 && T % a.sequence == 0, "head_gate: tokens must divide into sequences");
  expect(a.heads % (a.groups / a.share.stride) == 0 && C % a.heads == 0,
         "head_gate: groups must divide heads, and heads the output's columns");
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    (void)head_gate_scratch(exec, a);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::head_gate_backward(exec, a);
  }
  cpu::head_gate_backward(exec, a);
}

}  // namespace shoal::ops
