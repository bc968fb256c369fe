#pragma once
// Shared by the public op and the CUDA back end of the router's products.
#include <algorithm>

#include "shoal/base/math.hpp"
#include "shoal/ops/router_products.hpp"

namespace shoal::ops {

inline constexpr std::int64_t kProductRows = 64;      ///< experts of a tile on the GPU
inline constexpr std::int64_t kProductColumns = 128;  ///< tokens or hidden columns of a tile

/// Parts that the tokens of a weight gradient are cut into, so that a GPU has tiles for all its
/// multiprocessors; by the shapes alone, so that a plan counts the scratch without a GPU.
[[nodiscard]] inline std::int64_t weight_gradient_parts(std::int64_t tokens, std::int64_t experts,
                                                        std::int64_t hidden) {
  constexpr std::int64_t kTiles = 128, kLeastTokens = 128;
  const std::int64_t tiles = ceil_div(experts, kProductRows) * ceil_div(hidden, kProductColumns);
  const std::int64_t most = std::max<std::int64_t>(ceil_div(tokens, kLeastTokens), 1);
  return std::clamp<std::int64_t>(kTiles / std::max<std::int64_t>(tiles, 1), 1, most);
}

}  // namespace shoal::ops
