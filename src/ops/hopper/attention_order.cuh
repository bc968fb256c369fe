#pragma once
// The order in which persistent blocks take query tiles of heads. Blocks draw the next place of the
// order from a counter, so that none waits for another; long tiles come first, so that all end at
// about the same time. Tiles of a window of tokens are taken for a few heads before the next heads,
// so that blocks which run at the same time read the same keys and values.
#include "ops/attention.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kWindowTiles = 256;
/// Documents times groups of heads whose keys and values are read at the same time. Fewer, and
/// tiles of very different length read one of them in different places; more, and each is read by
/// few blocks at once, from beyond the L2 cache.
inline constexpr int kStreams = 64;

/// Query tiles [tiles] of all heads, numbered in the order in which they are taken.
struct QueryOrder {
  const int* by_length;  // window after window, tiles of the window, longest first
  int* counter;          // places taken so far
  const int* groups_at_once;
  int tiles, heads, group_heads;

  struct Place {
    int tile, head;
  };
  [[nodiscard]] __device__ int count() const { return tiles * heads; }
  [[nodiscard]] __device__ Place at(int index) const {
    const int first_tile = index / (kWindowTiles * heads) * kWindowTiles;
    const int window = min(kWindowTiles, tiles - first_tile);
    const int in_window = index - first_tile * heads;
    const int heads_at_once = *groups_at_once * group_heads;
    const int first_head = in_window / (window * heads_at_once) * heads_at_once;
    const int count = min(heads_at_once, heads - first_head);
    const int rest = in_window - window * first_head;
    return {by_length[first_tile + rest / count], first_head + rest % count};
  }
};

/// Sorts the tiles of a window by the keys that they see; the first window clears the counter and
/// chooses the groups. `words`: counter, groups, then the order. A block for each window.
static __global__ void __launch_bounds__(kWindowTiles)
    query_order_kernel(int* words, const std::int32_t* doc_start, int tokens, int tile_rows,
                       int groups) {
  __shared__ int length[kWindowTiles];
  const auto mine = static_cast<int>(threadIdx.x);
  const int first_tile = static_cast<int>(blockIdx.x) * kWindowTiles;
  const int row = (first_tile + mine) * tile_rows;
  length[mine] = row < tokens ? row + tile_rows - doc_start[row] : -1;
  __syncthreads();
  int before = 0, longest = 0;
  for (int i = 0; i < kWindowTiles; ++i) {
    const bool longer = length[i] > length[mine];
    before += longer || (length[i] == length[mine] && i > mine) ? 1 : 0;
    longest = max(longest, length[i]);
  }
  if (row < tokens) words[2 + first_tile + before] = first_tile + mine;
  if (row == 0) {
    const int documents = (min(tokens, kWindowTiles * tile_rows) + longest - 1) / longest;
    words[0] = 0;
    words[1] = min(max(kStreams / documents, 1), groups);
  }
}

/// `words`: query_order_words(tokens) ints of scratch.
template <class Elem>
[[nodiscard]] QueryOrder order_queries(const Exec& exec, int* words, const ForwardCall<Elem>& call,
                                       int tile_rows) {
  const int tokens = call.rules.tokens;
  const auto tiles = static_cast<int>(ceil_div(tokens, tile_rows));
  query_order_kernel<<<blocks_for(tiles, kWindowTiles), kWindowTiles, 0, exec.cuda().stream>>>(
      words, call.rules.doc_start, tokens, tile_rows, call.groups);
  check_launch();
  return {.by_length = words + 2,
          .counter = words,
          .groups_at_once = words + 1,
          .tiles = tiles,
          .heads = call.heads,
          .group_heads = call.heads / call.groups};
}

}  // namespace shoal::ops::cuda::hopper
