#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

/// out[i] = values[index[i]], both counted over all elements; 0 where the index is -1. The routing
/// weights of sorted rows, and back.
struct Take {
  TensorView out;          ///< out f32, any shape
  ConstTensorView values;  ///< f32, any shape
  ConstTensorView index;   ///< i32, the shape of out: -1 or below the elements of `values`
};
void take(const Exec& exec, const Take& args);

namespace cpu {
void take(const Exec& exec, const Take& args);
}  // namespace cpu
namespace cuda {
void take(const Exec& exec, const Take& args);
}  // namespace cuda
}  // namespace shoal::ops
