#pragma once
#include <cstdint>

#include "shoal/base/math.hpp"

namespace shoal::ops {

/// How the device memory that sorts T token ids is laid out: two buffers of ids and two of their
/// positions (the sort goes back and forth between them), then cub's own. A plan needs the sizes
/// on machines without a GPU, hence an upper bound for cub's; embedding_backward checks it.
inline constexpr std::int64_t kSortAlign = 256;

[[nodiscard]] constexpr std::int64_t sort_buffer_bytes(std::int64_t tokens) {
  return round_up(tokens * 4, kSortAlign);
}
[[nodiscard]] constexpr std::int64_t sort_temporary_bytes(std::int64_t tokens) {
  return (std::int64_t{1} << 20) + 2 * tokens;
}
[[nodiscard]] constexpr std::int64_t embedding_sort_bytes(std::int64_t tokens) {
  return tokens == 0 ? 0 : 4 * sort_buffer_bytes(tokens) + sort_temporary_bytes(tokens);
}

}  // namespace shoal::ops
