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
  TensorView dx_TD;         ///< out
  TensorView gain_part_PD;  ///< out f32, from reserve_parts(): what backward_weight adds up
  ConstTensorView dy_TD;
  ConstTensorView x_TD;  ///< what was normalised (the sum, with a residual branch)
  ConstTensorView rstd_T;
  ConstTensorView add_TD;  ///< optional gradient of the residual path, added to dx
};

/// RMSNorm with a gain; its caller keeps input and rstd for backward.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(const Weight& gain, double eps) : gain_{gain}, eps_{static_cast<float>(eps)} {}
  void forward(const Exec& exec, const NormForward& args) const;
  /// Memory that carries the gain's gradient from backward_input to backward_weight.
  [[nodiscard]] TensorView reserve_parts(const Store& store, std::int64_t tokens) const;
  void backward_input(const Exec& exec, const NormBackwardInput& args) const;
  void backward_weight(const Exec& exec, const ConstTensorView& gain_part_PD,
                       ops::Accumulate accumulate) const;

 private:
  Weight gain_;
  float eps_ = 0.0F;
};

}  // namespace shoal::nn
