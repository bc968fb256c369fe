#pragma once
// The order in which persistent blocks take query tiles of heads. Blocks draw the next place of the
// order from a counter, so that none waits for another; long tiles come first, so that all end at
// about the same time. Tiles of a window of tokens are taken for a few heads before the next heads:
// their keys and values then stay in the L2 cache.
#include "ops/attention.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kWindowTiles = 256;

/// Query tiles [tiles] of all heads, numbered in the order in which they are taken.
struct QueryOrder {
  const int* by_length;  // window after window, tiles of the window, longest first
  int* counter;          // places taken so far
  int tiles, heads;
  int heads_at_once;

  struct Place {
    int tile, head;
  };
  [[nodiscard]] __device__ int count() const { return tiles * heads; }
  [[nodiscard]] __device__ Place at(int index) const {
    const int first_tile = index / (kWindowTiles * heads) * kWindowTiles;
    const int window = min(kWindowTiles, tiles - first_tile);
    const int in_window = index - first_tile * heads;
    const int first_head = in_window / (window * heads_at_once) * heads_at_once;
    const int count = min(heads_at_once, heads - first_head);
    const int rest = in_window - window * first_head;
    return {by_length[first_tile + rest / count], first_head + rest % count};
  }
};

/// Sorts the tiles of a window by the keys that they see, and clears the counter. A block for each
/// window.
static __global__ void __launch_bounds__(kWindowTiles)
    query_order_kernel(int* by_length, int* counter, const std::int32_t* doc_start, int tokens,
                       int tile_rows) {
  __shared__ int length[kWindowTiles];
  const auto mine = static_cast<int>(threadIdx.x);
  const int first_tile = static_cast<int>(blockIdx.x) * kWindowTiles;
  const int row = (first_tile + mine) * tile_rows;
  length[mine] = row < tokens ? row + tile_rows - doc_start[row] : -1;
  if (blockIdx.x == 0 && mine == 0) *counter = 0;
  __syncthreads();
  if (row >= tokens) return;
  int before = 0;
  for (int i = 0; i < kWindowTiles; ++i) {
    const bool longer = length[i] > length[mine];
    before += longer || (length[i] == length[mine] && i > mine) ? 1 : 0;
  }
  by_length[first_tile + before] = first_tile + mine;
}

/// `words`: query_order_words(tokens) ints of scratch.
[[nodiscard]] inline QueryOrder order_queries(const Exec& exec, int* words, const TokenRules& rules,
                                              int heads, int tile_rows) {
  const auto tiles = static_cast<int>(ceil_div(rules.tokens, tile_rows));
  query_order_kernel<<<blocks_for(tiles, kWindowTiles), kWindowTiles, 0, exec.cuda().stream>>>(
      words + 1, words, rules.doc_start, rules.tokens, tile_rows);
  check_launch();
  return {.by_length = words + 1,
          .counter = words,
          .tiles = tiles,
          .heads = heads,
          .heads_at_once = heads};
}

}  // namespace shoal::ops::cuda::hopper
