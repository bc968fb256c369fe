#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467): y = x * rstd * w, rstd = (mean x^2 +
/// eps)^-1/2 over the last dimension. With `add_TD`: x := x + add first (the residual), stored to
/// `sum_TD`.
struct RmsNormForward {
  TensorView y_TD;         ///< out elem
  TensorView rstd_T;       ///< out f32, saved for backward
  TensorView sum_TD;       ///< out elem, x + add; only with add_TD
  ConstTensorView x_TD;    ///< elem
  ConstTensorView add_TD;  ///< elem, optional
  ConstTensorView w_D;     ///< gain, elem
  float eps = 1e-6F;
};
void rmsnorm_forward(const Exec& exec, const RmsNormForward& args);

struct RmsNormBackward {
  TensorView dx_TD;        ///< out elem
  TensorView part_PD;      ///< out f32 [part_count(T), D]: parts of dw = sum_t dy * x * rstd
  ConstTensorView dy_TD;   ///< elem
  ConstTensorView x_TD;    ///< elem: the normalised input (x + add of the forward)
  ConstTensorView w_D;     ///< elem
  ConstTensorView rstd_T;  ///< f32
  ConstTensorView add_TD;  ///< elem, optional: gradient of the residual path, added to dx
};
/// The gradient of the input and, in the same pass, the parts of the gain's gradient, which
/// sum_parts() adds up.
void rmsnorm_backward(const Exec& exec, const RmsNormBackward& args);

namespace cpu {
void rmsnorm_forward(const Exec& exec, const RmsNormForward& args);
void rmsnorm_backward(const Exec& exec, const RmsNormBackward& args);
}  // namespace cpu
namespace cuda {
void rmsnorm_forward(const Exec& exec, const RmsNormForward& args);
void rmsnorm_backward(const Exec& exec, const RmsNormBackward& args);
}  // namespace cuda
}  // namespace shoal::ops
