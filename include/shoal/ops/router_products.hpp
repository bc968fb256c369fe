#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// The products of a router, whose weight w_ED, logits and their gradients are f32 whatever the
/// element type of x is. Elements of x enter exactly and sums are f32: nothing is rounded to the
/// element type but dx.
struct RouterLogits {
  TensorView logits_TE;  ///< out f32: x w^T
  ConstTensorView x_TD;  ///< elem
  ConstTensorView w_ED;  ///< f32
};
void router_logits(const Exec& exec, const RouterLogits& args);

struct RouterInputGradient {
  TensorView dx_TD;  ///< out elem: dlogits w
  ConstTensorView dlogits_TE, w_ED;
};
void router_input_gradient(const Exec& exec, const RouterInputGradient& args);

struct RouterWeightGradient {
  TensorView dw_ED;            ///< out f32: dlogits^T x
  ConstTensorView dlogits_TE;  ///< f32
  ConstTensorView x_TD;        ///< elem
  Accumulate accumulate = Accumulate::overwrite;
};
void router_weight_gradient(const Exec& exec, const RouterWeightGradient& args);

/// On Hopper's tensor cores where they take the shapes: false, and nothing is done, elsewhere.
/// `part_PED`: scratch for sums over parts of the tokens.
namespace cuda {
[[nodiscard]] bool router_logits(const Exec& exec, const RouterLogits& args);
[[nodiscard]] bool router_input_gradient(const Exec& exec, const RouterInputGradient& args);
[[nodiscard]] bool router_weight_gradient(const Exec& exec, const RouterWeightGradient& args,
                                          const TensorView& part_PED);
}  // namespace cuda
}  // namespace shoal::ops
