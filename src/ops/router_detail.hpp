#pragma once
// Shared by the back ends of the router.
#include "shoal/base/math.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::ops {

/// Keeps the division by the sum of the chosen scores finite when all of them underflow.
inline constexpr float kTinyScore = 1e-20F;

/// Statistics are summed over chunks of this many tokens first, then over chunks in order.
inline constexpr std::int64_t kStatisticsChunk = 64;

struct RouterPartials {
  TensorView score_SCE;  ///< f32 [S, chunks, E]: sum of scores over the chunk's tokens
  TensorView count_SCE;  ///< i32 [S, chunks, E]
  TensorView sums_SC2;   ///< f32 [S, chunks, 2]: entropy, logsumexp^2
  [[nodiscard]] std::int64_t chunks() const { return score_SCE.dim(1); }
};

/// Scratch of router_statistics; a dry Exec takes it too.
inline RouterPartials router_partials(const Exec& exec, const RouterStatistics& a) {
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1);
  const std::int64_t tokens = S == 0 ? 0 : a.index_TK.dim(0) / S;
  const std::int64_t chunks = ceil_div(tokens, kStatisticsChunk);
  return {.score_SCE = scratch(exec, {S, chunks, E}, DType::f32),
          .count_SCE = scratch(exec, {S, chunks, E}, DType::i32),
          .sums_SC2 = scratch(exec, {S, chunks, 2}, DType::f32)};
}

}  // namespace shoal::ops
