#pragma once
#include "shoal/tensor/view.hpp"

namespace shoal::nn {

/// Sees, and may replace, the experts that routers choose: to compare layouts. Not for a captured
/// step: it may wait.
class RoutingTap {
 public:
  struct Choice {
    std::int64_t layer = 0;
    std::int64_t first_token = 0;  ///< token of row 0 among all tokens of the global batch
    TensorView index_TK;           ///< i32; may be written
    ConstTensorView score_TE;      ///< f32
    ConstTensorView bias_E;        ///< f32; absent where the router has none
  };
  virtual ~RoutingTap() = default;
  /// Called after each choice, also when a forward pass is recomputed. True when index_TK was
  /// replaced: the weights then follow the new choice.
  [[nodiscard]] virtual bool visit(const Exec& exec, const Choice& choice) = 0;
};

}  // namespace shoal::nn
