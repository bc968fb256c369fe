#pragma once
#include <vector>

#include "shoal/nn/parameter.hpp"

namespace shoal::nn::test {

/// Global row-major index of each local element of a parameter's slice.
[[nodiscard]] inline std::vector<std::size_t> global_indices(const ParameterSpec& spec) {
  std::vector<std::size_t> indices{0};
  for (std::size_t i = 0; i < spec.slice.size(); ++i) {
    const SliceDim& dim = spec.slice[i];
    const auto size = static_cast<std::size_t>(spec.shape[static_cast<int>(i)]);
    std::vector<std::size_t> next;
    for (const std::size_t outer : indices) {
      for (std::int64_t k = 0; k < dim.size(); ++k) {
        const std::int64_t at = dim.start + k / dim.block * dim.stride + k % dim.block;
        next.push_back(outer * size + static_cast<std::size_t>(at));
      }
    }
    indices = std::move(next);
  }
  return indices;
}

}  // namespace shoal::nn::test
