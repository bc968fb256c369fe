#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// h = silu(gate) * up (Shazeer 2020, arXiv:2002.05202), gate and up packed side by side.
/// `rows_limit` (optional, i32 scalar on the device): rows from there on are neither read nor
/// written.
struct SwigluForward {
  TensorView h_RF;             ///< out elem [R, F]
  ConstTensorView gate_up_RF;  ///< elem [R, 2F]: F gate columns, then F up columns
  ConstTensorView rows_limit;  ///< i32 [1], optional
};
void swiglu_forward(const Exec& exec, const SwigluForward& args);

struct SwigluBackward {
  TensorView dgate_up_RF;  ///< out elem [R, 2F]
  ConstTensorView dh_RF;   ///< elem [R, F]
  ConstTensorView gate_up_RF;
  ConstTensorView rows_limit;
};
void swiglu_backward(const Exec& exec, const SwigluBackward& args);

namespace cpu {
void swiglu_forward(const Exec& exec, const SwigluForward& args);
void swiglu_backward(const Exec& exec, const SwigluBackward& args);
}  // namespace cpu
namespace cuda {
void swiglu_forward(const Exec& exec, const SwigluForward& args);
void swiglu_backward(const Exec& exec, const SwigluBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
