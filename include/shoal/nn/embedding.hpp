#pragma once
#include "shoal/nn/parameter.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/ops/common.hpp"

namespace shoal::nn {

/// Rows of a table, with dropout.
class Embedding {
 public:
  Embedding() = default;
  Embedding(const Weight& table, double dropout)
      : table_{table}, dropout_{static_cast<float>(dropout)} {}
  void forward(const Exec& exec, const Pass& pass, const TensorView& x_TD) const;
  void backward_weight(const Exec& exec, const Pass& pass, const ConstTensorView& dx_TD,
                       ops::Accumulate accumulate) const;

 private:
  void drop(const Exec& exec, const Pass& pass, const TensorView& y_TD,
            const ConstTensorView& x_TD) const;

  Weight table_;
  float dropout_ = 0.0F;
};

}  // namespace shoal::nn
