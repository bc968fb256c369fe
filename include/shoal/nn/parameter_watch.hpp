#pragma once
#include "shoal/device/exec.hpp"
#include "shoal/nn/parameter.hpp"

namespace shoal::nn {

/// Fused tensors [first, last).
struct TensorRange {
  ParameterLayout::Handle first = 0;
  ParameterLayout::Handle last = 0;
};

/// Learns where a step comes to the tensors of a model, so that weights can arrive and gradients
/// leave while the model computes.
class ParameterWatch {
 public:
  virtual ~ParameterWatch() = default;
  /// The pass is about to read these weights.
  virtual void before_use(const Exec& exec, TensorRange tensors) = 0;
  /// The pass has written these gradients for the last time.
  virtual void after_gradients(const Exec& exec, TensorRange tensors) = 0;
};

}  // namespace shoal::nn
