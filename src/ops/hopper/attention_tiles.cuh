#pragma once
// Tiles of heads in shared memory: kRows tokens by the kColumns values of one head, in boxes of 64
// columns. Queries, keys, values, outputs and their gradients all lie so; either the columns or the
// tokens may be the inner dimension of a product.
#include "ops/attention.cuh"
#include "ops/hopper/tma.cuh"
#include "ops/hopper/wgmma.cuh"

namespace shoal::ops::cuda::hopper {

template <int kRows, int kColumns>
struct TokenTile {
  static constexpr int kBoxes = kColumns / kBoxRow;
  static constexpr unsigned kRowBytes = 2 * kBoxRow;
  static constexpr unsigned kBoxBytes = kRows * kRowBytes;
  static constexpr unsigned kBytes = kBoxes * kBoxBytes;
  static constexpr unsigned kEightRows = 8 * kRowBytes;  // the swizzle repeats

  /// Starts the copy of tokens [row, row + kRows), values from `column` of their rows on; tokens
  /// beyond the tensor arrive as zeros. One thread calls, after announcing kBytes.
  __device__ static void load(unsigned shared, const CUtensorMap& map, int row, int column,
                              const Barrier& full) {
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      copy_box(shared + static_cast<unsigned>(box) * kBoxBytes, map,
               {.matrix = 0, .row = row, .column = column + box * kBoxRow}, full);
    }
  }

  /// Tokens from `row` on are the outer indices, values [column, column + 16) the inner ones.
  __device__ static std::uint64_t with_inner_columns(unsigned shared, int row, int column) {
    return moved(operand_descriptor(shared, 16, kEightRows), row, column);
  }
  /// Tokens [row, row + 16) are the inner indices, values from `column` on the outer ones.
  __device__ static std::uint64_t with_inner_rows(unsigned shared, int row, int column) {
    return moved(operand_descriptor(shared, kBoxBytes, kEightRows), row, column);
  }

 private:
  /// The tile's descriptor for a place inside it. Its lower half counts in units of 16 bytes and
  /// does not overflow: what is known when compiling costs one addition.
  __device__ static std::uint64_t moved(std::uint64_t tile, int row, int column) {
    const unsigned inside = static_cast<unsigned>(column / kBoxRow) * kBoxBytes +
                            static_cast<unsigned>(row) * kRowBytes + column % kBoxRow * 2U;
    const unsigned lower = static_cast<unsigned>(tile) + inside / 16;
    return (tile >> 32 << 32) | lower;
  }
};

/// Heads as the copy engine reads them: whole rows, a head being a range of their columns.
struct HeadColumns {
  int first, head_dim;
  [[nodiscard]] __device__ int of(int head) const { return first + head * head_dim; }
};
template <class View>
[[nodiscard]] HeadColumns head_columns(const BasicHeads<View>& heads) {
  return {static_cast<int>(heads.first), static_cast<int>(heads.head_dim)};
}
template <class View>
[[nodiscard]] CUtensorMap map_of_heads(const BasicHeads<View>& heads, int box_rows) {
  return make_tensor_map({.data = heads.rows.bytes_begin(),
                          .dtype = heads.rows.dtype(),
                          .matrices = 1,
                          .rows = heads.rows.dim(0),
                          .columns = heads.rows.dim(1),
                          .box_rows = box_rows});
}

}  // namespace shoal::ops::cuda::hopper
