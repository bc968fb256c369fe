#include "shoal/ops/take.hpp"

namespace shoal::ops::cpu {

void take(const Exec&, const Take& a) {
  const std::int32_t* index = a.index.data<std::int32_t>();
  const float* values = a.values.data<float>();
  float* out = a.out.data<float>();
  for (std::int64_t i = 0; i < a.out.elements(); ++i) {
    out[i] = index[i] < 0 ? 0.0F : values[index[i]];
  }
}

}  // namespace shoal::ops::cpu
