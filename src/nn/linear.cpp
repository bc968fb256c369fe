#include "shoal/nn/linear.hpp"

#include "shoal/ops/gemm.hpp"

namespace shoal::nn {

void Linear::forward(const Exec& exec, const TensorView& y, const ConstTensorView& x,
                     ops::Accumulate accumulate) const {
  ops::gemm_nt(exec, {.c = y, .a = x, .b = weight_.value, .accumulate = accumulate});
}

void Linear::backward_input(const Exec& exec, const TensorView& dx, const ConstTensorView& dy,
                            ops::Accumulate accumulate) const {
  ops::gemm_nn(exec, {.c = dx, .a = dy, .b = weight_.value, .accumulate = accumulate});
}

void Linear::backward_weight(const Exec& exec, const ConstTensorView& dy, const ConstTensorView& x,
                             ops::Accumulate accumulate) const {
  ops::gemm_tn(exec, {.c = weight_.grad, .a = dy, .b = x, .accumulate = accumulate});
}

}  // namespace shoal::nn
