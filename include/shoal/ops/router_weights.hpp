#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// The weights of experts that were chosen elsewhere, as router_forward gives them to its own
/// choice: the score of each, divided by the sum of the chosen scores when `normalise`, times
/// `scaling`. To replay a routing.
struct RouterWeights {
  TensorView weight_TK;      ///< out f32
  ConstTensorView score_TE;  ///< f32
  ConstTensorView index_TK;  ///< i32, in [0, E)
  bool normalise = true;
  float scaling = 1.0F;
};
void router_weights(const Exec& exec, const RouterWeights& args);

namespace cpu {
void router_weights(const Exec& exec, const RouterWeights& args);
}
namespace cuda {
void router_weights(const Exec& exec, const RouterWeights& args);
}
}  // namespace shoal::ops
