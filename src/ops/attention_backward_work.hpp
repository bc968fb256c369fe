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

/// Into how many pieces of work the query heads of a group are split, for tiles of keys of `groups`
/// groups: the fewest that give every multiprocessor several. Does not depend on the device, and so
/// neither do the bits of the result.
[[nodiscard]] constexpr int backward_parts(std::int64_t tokens, std::int64_t heads,
                                           std::int64_t groups) {
  constexpr std::int64_t kPieces = 1024;
  const std::int64_t tiles = ceil_div(tokens, kBackwardKeys) * groups, most = heads / groups;
  for (std::int64_t parts = 1; parts < most; ++parts) {
    if (most % parts == 0 && tiles * parts >= kPieces) return static_cast<int>(parts);
  }
  return static_cast<int>(most);
}

/// 4-byte words. For each tile of queries of a head: sums of dq, three values a query, what the
/// tile says about itself, whose turn it is. For each tile of keys of a group, if its heads are
/// split: sums of dk and dv, whose turn it is. Then the next piece of work.
[[nodiscard]] constexpr std::int64_t backward_work_words(std::int64_t tokens, std::int64_t heads,
                                                         std::int64_t groups,
                                                         std::int64_t head_dim) {
  const std::int64_t queries = backward_queries(head_dim);
  const std::int64_t query_tiles = heads * ceil_div(tokens, queries);
  const std::int64_t key_tiles =
      backward_parts(tokens, heads, groups) > 1 ? groups * ceil_div(tokens, kBackwardKeys) : 0;
  return query_tiles * (queries * (head_dim + 3) + kQueryTileWords + 1) +
         key_tiles * (2 * kBackwardKeys * head_dim + 1) + 1;
}

}  // namespace shoal::ops
