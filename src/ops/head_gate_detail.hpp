#pragma once
// Shared by the back ends of the head gate.
#include "shoal/ops/head_gate.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::ops {

/// Scratch of head_gate_forward on the GPU: sums of the scores of each block.
inline TensorView head_gate_block_sums(const Exec& exec, const HeadGateForward& a) {
  return scratch(exec, a.score_T.shape(), DType::f32);
}

/// Scratch of head_gate_backward; a dry Exec takes it too.
struct HeadGateScratch {
  TensorView dgate_T;   ///< f32: d loss / d g, what token t contributes to its block
  TensorView dlogit_T;  ///< f32: at a block's first token the gradient of the gate's logit
  TensorView dscore_T;  ///< f32: gradient of s_t
  TensorView budget_S;  ///< f32: gradient of the budget term for each block of a sequence
  TensorView dw_PD;     ///< f32: parts of dw
};
inline HeadGateScratch head_gate_scratch(const Exec& exec, const HeadGateBackward& a) {
  const std::int64_t T = a.dx_TD.dim(0), D = a.dx_TD.dim(1);
  return {.dgate_T = scratch(exec, {T}, DType::f32),
          .dlogit_T = scratch(exec, {T}, DType::f32),
          .dscore_T = scratch(exec, {T}, DType::f32),
          .budget_S = scratch(exec, {ceil_div(T, a.sequence)}, DType::f32),
          .dw_PD = scratch_parts(exec, T, D)};
}

}  // namespace shoal::ops
