#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

struct NormForward {
  TensorView y_TD;    ///< out
  TensorView rstd_T;  ///< out f32
  TensorView sum_TD;  ///< out: x + add, only with add_TD
  ConstTensorView x_TD;
  ConstTensorView add_TD;  ///< optional residual branch, added to x before the norm
};
struct NormBackwardInput {
  TensorView dx_TD;  ///< out
  ConstTensorView dy_TD;
  ConstTensorView x_TD;  ///< what was normalised (the sum, with a residual branch)
  ConstTensorView rstd_T;
  ConstTensorView add_TD;  ///< optional gradient of the residual path, added to dx
};
struct NormBackwardWeight {
  ConstTensorView dy_TD, x_TD, rstd_T;
  ops::Accumulate accumulate = ops::Accumulate::overwrite;
};

/// RMSNorm with a gain; its caller keeps input and rstd for backward.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(const Weight& gain, double eps) : gain_{gain}, eps_{static_cast<float>(eps)} {}
  void forward(const Exec& exec, const NormForward& args) const;
  void backward_input(const Exec& exec, const NormBackwardInput& args) const;
  void backward_weight(const Exec& exec, const NormBackwardWeight& args) const;

 private:
  Weight gain_;
  float eps_ = 0.0F;
};

}  // namespace shoal::nn
