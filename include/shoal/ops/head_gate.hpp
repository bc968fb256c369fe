#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Where ranks share the groups, local group j is group j * stride + offset of the whole model.
struct GroupShare {
  std::int64_t stride = 1;  ///< ranks; divides G
  std::int64_t offset = 0;  ///< this rank
};

/// Gate of dynamic attention (DESIGN section 4). Blocks of `block` tokens counted from each
/// document's start. With s_t = w . x_t and i the position of the block's first token in its
/// document: m = (1/i) sum of s over the document's tokens before the block,
/// l = log2(1 + i) / log2(1 + max_position), g = sigmoid(m + c l + b0),
/// n = clamp(floor(G g + 1/2), 1, G). A document's first block (i = 0) uses all groups, g = 1.
/// All arithmetic is fp32; sums run over the tokens of a block in order, then over the blocks.
struct HeadGateForward {
  TensorView gate_T;            ///< out f32: g of the token's block
  TensorView active_groups_T;   ///< out i32: how many local groups are below n of the token's block
  TensorView score_T;           ///< out f32: s_t
  ConstTensorView x_TD;         ///< elem: the attention's input
  ConstTensorView w_D;          ///< f32
  ConstTensorView scalars;      ///< f32 [2]: c, b0
  ConstTensorView doc_start_T;  ///< i32
  std::int64_t groups = 1;      ///< G, of the whole model
  std::int64_t block = 64;
  std::int64_t max_position = 1;
  GroupShare share = {};
};
void head_gate_forward(const Exec& exec, const HeadGateForward& args);

/// Straight-through gradient. d active_j / d g is that of the ramp
/// clamp((G g - j - 1/2)/2 + 1/2, 0, 1); only active groups contribute <dout, out>. Plus the budget
/// term budget_scale * sum over sequences of (mean over blocks of g - budget)^2. Everything is
/// linear in <dout, out>: where ranks share the groups their results are partial sums, and one rank
/// alone passes the budget's scale.
struct HeadGateBackward {
  TensorView dx_TD;         ///< in/out elem: the gate's input gradient is added
  TensorView dw_D;          ///< out f32
  TensorView dscalars;      ///< out f32 [2]
  ConstTensorView dout_TC;  ///< elem [T, local H d]: gradient of the gated attention output
  ConstTensorView out_TC;   ///< elem [T, local H d]: that output
  ConstTensorView gate_T, active_groups_T;
  ConstTensorView x_TD, w_D, scalars, doc_start_T;
  ConstTensorView budget_scale;  ///< f32 [1] on the device, optional
  float budget = 1.0F;
  std::int64_t sequence = 1;  ///< tokens of a sequence: T is a multiple
  std::int64_t groups = 1;    ///< G, of the whole model
  std::int64_t heads = 1;     ///< local
  std::int64_t block = 64, max_position = 1;
  GroupShare share = {};
  Accumulate accumulate = Accumulate::overwrite;
};
void head_gate_backward(const Exec& exec, const HeadGateBackward& args);

namespace cpu {
void head_gate_forward(const Exec& exec, const HeadGateForward& args);
void head_gate_backward(const Exec& exec, const HeadGateBackward& args);
}  // namespace cpu
namespace cuda {
void head_gate_forward(const Exec& exec, const HeadGateForward& args);
void head_gate_backward(const Exec& exec, const HeadGateBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
