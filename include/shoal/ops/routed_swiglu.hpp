#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// Backward of a routed SwiGLU expert up to its down projection W: y_t = sum over the rows r of
/// token t of weight_r W h_r, h = silu(gate) * up. With dh_r = W^T dy_t, the gradient before the
/// routing weight,
///   dweight_r     = <dh_r, h_r>
///   d(gate, up)_r = weight_r * the gradient of h for dh_r
///   weight_r h_r  : what the gradient of W needs beside dy.
/// So neither h nor the rows W h have to be kept for the backward pass.
struct RoutedSwigluBackward {
  TensorView dgate_up_RF;      ///< out elem [R, 2F]
  TensorView h_RF;             ///< out elem [R, F]: weight * h; may be the memory of dh
  TensorView dweight_R;        ///< out f32 [R]
  ConstTensorView dh_RF;       ///< elem [R, F]
  ConstTensorView gate_up_RF;  ///< elem [R, 2F]: F gate columns, then F up columns
  ConstTensorView weight_R;    ///< f32 [R]
  ConstTensorView rows_limit;  ///< i32 [1], optional: rows from there on are left alone
};
void routed_swiglu_backward(const Exec& exec, const RoutedSwigluBackward& args);

namespace cpu {
void routed_swiglu_backward(const Exec& exec, const RoutedSwigluBackward& args);
}  // namespace cpu
namespace cuda {
void routed_swiglu_backward(const Exec& exec, const RoutedSwigluBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
