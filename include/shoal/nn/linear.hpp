#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

/// y[T, N] = x[T, K] W[N, K]^T. The one place where a dense weight meets an activation: a narrower
/// storage format of either (fp8 with scales) belongs here and nowhere else.
class Linear {
 public:
  Linear() = default;
  explicit Linear(const Weight& weight) : weight_{weight} {}

  [[nodiscard]] std::int64_t outputs() const { return weight_.value.dim(0); }
  [[nodiscard]] std::int64_t inputs() const { return weight_.value.dim(1); }

  /// With `add`: y += x W^T.
  void forward(const Exec& exec, const TensorView& y, const ConstTensorView& x,
               ops::Accumulate accumulate = ops::Accumulate::overwrite) const;
  /// dx = dy W, or dx += dy W.
  void backward_input(const Exec& exec, const TensorView& dx, const ConstTensorView& dy,
                      ops::Accumulate accumulate = ops::Accumulate::overwrite) const;
  /// grad (+)= dy^T x.
  void backward_weight(const Exec& exec, const ConstTensorView& dy, const ConstTensorView& x,
                       ops::Accumulate accumulate) const;

 private:
  Weight weight_;
};

}  // namespace shoal::nn
