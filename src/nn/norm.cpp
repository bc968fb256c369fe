#include "shoal/nn/norm.hpp"

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

void RmsNorm::backward_input(const Exec& exec, const NormBackwardInput& args) const {
  ops::rmsnorm_backward_input(exec, {.dx_TD = args.dx_TD,
                                     .dy_TD = args.dy_TD,
                                     .x_TD = args.x_TD,
                                     .w_D = gain_.value,
                                     .rstd_T = args.rstd_T,
                                     .add_TD = args.add_TD});
}

void RmsNorm::backward_weight(const Exec& exec, const NormBackwardWeight& args) const {
  ops::rmsnorm_backward_weight(exec, {.dw_D = gain_.grad,
                                      .dy_TD = args.dy_TD,
                                      .x_TD = args.x_TD,
                                      .rstd_T = args.rstd_T,
                                      .accumulate = args.accumulate});
}

}  // namespace shoal::nn
