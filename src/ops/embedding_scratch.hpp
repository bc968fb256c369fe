#pragma once
#include <cstdint>

#include "shoal/base/math.hpp"
#include "shoal/tensor/view.hpp"

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

/// Tokens of one id that are summed on their own, so that a frequent id does not keep one block
/// busy while all others are done.
inline constexpr std::int64_t kPieceTokens = 32;

/// Scratch of embedding_backward on a GPU.
struct EmbeddingScratch {
  TensorView sort;      ///< u8 [embedding_sort_bytes(T)]
  TensorView start_V1;  ///< i32 [V + 1]: where the tokens of each id start in the order of ids
  TensorView piece_PD;  ///< f32 [T / kPieceTokens, D]: sums of pieces; piece_of() says which row
};
[[nodiscard]] inline EmbeddingScratch embedding_scratch(const Exec& exec, std::int64_t tokens,
                                                        std::int64_t ids, std::int64_t columns) {
  return {.sort = scratch(exec, {embedding_sort_bytes(tokens)}, DType::u8),
          .start_V1 = scratch(exec, {ids + 1}, DType::i32),
          .piece_PD = scratch(exec, {tokens / kPieceTokens, columns}, DType::f32)};
}
/// Row of the piece whose first token is at `position` in the order of ids. Pieces do not overlap
/// and are kPieceTokens long, so that no two get the same row.
[[nodiscard]] constexpr std::int64_t piece_of(std::int64_t position) {
  return position / kPieceTokens;
}

}  // namespace shoal::ops
