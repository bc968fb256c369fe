#pragma once
#include <cstdint>

#include "shoal/base/math.hpp"

/// Scratch of backward attention on Hopper (hopper/attention_backward_plan.cuh), stated once for
/// the kernel and for the dry Exec that counts it.
namespace shoal::ops {

inline constexpr int kBackwardKeys = 128;  // of a tile
inline constexpr int kQueryTileWords = 4;  // what a tile of queries says about itself

/// Queries of a tile; head_dim is 64 or 128.
[[nodiscard]] constexpr int backward_queries(std::int64_t head_dim) {
  return head_dim == 64 ? 128 : 64;
}
[[nodiscard]] constexpr bool backward_has_wgmma(std::int64_t head_dim) {
  return head_dim == 64 || head_dim == 128;
}

/// fp32 words: sums of dq, three values a query, and for each tile of queries of a head what it
/// says about itself and whose turn it is; then the next piece of work.
[[nodiscard]] constexpr std::int64_t backward_work_floats(std::int64_t tokens, std::int64_t heads,
                                                          std::int64_t head_dim) {
  const std::int64_t queries = backward_queries(head_dim);
  const std::int64_t pairs = heads * ceil_div(tokens, queries);
  return pairs * (queries * (head_dim + 3) + kQueryTileWords + 1) + 1;
}

}  // namespace shoal::ops
