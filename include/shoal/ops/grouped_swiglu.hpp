#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Up-projection of experts and its activation: gate_up = rows weight^T by expert, as
/// grouped_gemm_nt has it, and h = silu(gate) * up, as swiglu_forward has it; the same bits. On
/// Hopper one pass, otherwise those two ops. Rows from offsets[E] on are neither read nor written.
struct GroupedSwigluForward {
  TensorView h_RF;              ///< out elem [R, F]
  TensorView gate_up_RF;        ///< out elem [R, 2F]: F gate columns, then F up columns
  ConstTensorView rows_RD;      ///< elem [R, D], sorted by expert
  ConstTensorView gate_up_EFD;  ///< elem [E, 2F, D]: the weights
  ConstTensorView offsets_E1;   ///< i32 [E+1], ascending from 0
};
void grouped_swiglu_forward(const Exec& exec, const GroupedSwigluForward& args);

/// Input gradient of the down-projection and through the activation: dh = dout weight by expert,
/// as grouped_gemm_nn has it, then swiglu_backward; the same bits. dh takes scratch memory where it
/// is not kept in registers.
struct GroupedSwigluBackward {
  TensorView dgate_up_RF;      ///< out elem [R, 2F]; must not overlap gate_up
  ConstTensorView dout_RD;     ///< elem [R, D], sorted by expert
  ConstTensorView down_EDF;    ///< elem [E, D, F]: the weights
  ConstTensorView gate_up_RF;  ///< elem [R, 2F] of the forward pass
  ConstTensorView offsets_E1;
};
void grouped_swiglu_backward(const Exec& exec, const GroupedSwigluBackward& args);

namespace cuda {
/// False, having done nothing, where the fused kernel does not take the call.
bool grouped_swiglu_forward(const Exec& exec, const GroupedSwigluForward& args);
bool grouped_swiglu_backward(const Exec& exec, const GroupedSwigluBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
