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

namespace cuda {
/// False, having done nothing, where the fused kernel does not take the call.
bool grouped_swiglu_forward(const Exec& exec, const GroupedSwigluForward& args);
}  // namespace cuda
}  // namespace shoal::ops
