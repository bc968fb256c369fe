#pragma once
// Shared by the back ends of the router.
#include "shoal/base/math.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::ops {

/// Keeps the division by the sum of the chosen scores finite when all of them underflow.
inline constexpr float kTinyScore = 1e-20F;

/// Statistics are summed over chunks of this many tokens first, then over chunks in order.
inline constexpr std::int64_t kStatisticsChunk = 64;

}  // namespace shoal::ops
