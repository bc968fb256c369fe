#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// out_i = factor_i * loss scale of the StepState: the device scalars that gradients of this step
/// are multiplied by. The host knows the factors (one over the global count of targets, ...), only
/// the device knows the loss scale in force.
struct StepScale {
  TensorView out;          ///< out f32 [n]
  ConstTensorView factor;  ///< f32 [n]
  ConstTensorView state;   ///< u8 [sizeof(StepState)]
};
void step_scale(const Exec& exec, const StepScale& args);

namespace cpu {
void step_scale(const Exec& exec, const StepScale& args);
}
namespace cuda {
void step_scale(const Exec& exec, const StepScale& args);
}
}  // namespace shoal::ops
