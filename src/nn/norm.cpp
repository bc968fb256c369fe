#include "shoal/nn/norm.hpp"

#include "shoal/ops/partials.hpp"
#include "shoal/ops/rmsnorm.hpp"

namespace shoal::nn {

void RmsNorm::forward(const Exec& exec, const NormForward& args) const {
  ops::rmsnorm_forward(exec, {.y_TD = args.y_TD,
                              .rstd_T = args.rstd_T,
                              .sum_TD = args.sum_TD,
                              .x_TD = args.x_TD,
                              .add_TD = args.add_TD,
                              .w_D = gain_.value,
                              .eps = eps_});
}

TensorView RmsNorm::reserve_parts(const Store& store, std::int64_t tokens) const {
  return ops::allocate_parts(store, tokens, gain_.value.elements());
}

void RmsNorm::backward_input(const Exec& exec, const NormBackwardInput& args) const {
  ops::rmsnorm_backward(exec, {.dx_TD = args.dx_TD,
                               .part_PD = args.gain_part_PD,
                               .dy_TD = args.dy_TD,
                               .x_TD = args.x_TD,
                               .w_D = gain_.value,
                               .rstd_T = args.rstd_T,
                               .add_TD = args.add_TD});
}

void RmsNorm::backward_weight(const Exec& exec, const ConstTensorView& gain_part_PD,
                              ops::Accumulate accumulate) const {
  ops::sum_parts(exec, gain_.grad, gain_part_PD, accumulate);
}

}  // namespace shoal::nn
