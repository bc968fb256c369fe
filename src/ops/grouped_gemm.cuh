#pragma once
// What the kernels of the grouped matrix product share: how tiles of c are dealt to blocks from
// offsets that only the device knows.
#include "ops/cuda_common.cuh"
#include "shoal/ops/gemm.hpp"

namespace shoal::ops::cuda {

enum class GroupedForm { nt, nn, tn };

/// One call. c is [rows, columns] of an expert's product: nt has R_e x N, nn R_e x K, tn N x K.
struct GroupedCall {
  const void* a;
  const void* b;
  void* c;
  const std::int32_t* offsets;
  int experts;
  std::int64_t n, k;
  bool add;
};

/// One tile of c: operands start at inner index 0 of the tile's first row and column.
template <class Elem, class Out>
struct GroupedTile {
  const Elem* a;
  const Elem* b;
  Out* c;
  std::int64_t a_stride, b_stride, c_stride;
  int rows, columns;  // of the tile that are inside c, possibly more than a tile
  int inner;
};

/// Exclusive end of each expert's row tiles, summed over experts, by the first warp of the block.
template <int kTileRows>
__device__ void count_row_tiles(int* tile_end, const GroupedCall& call) {
  if (threadIdx.x < kWarpSize) {
    const int lane = static_cast<int>(threadIdx.x);
    int total = 0;
    for (int first = 0; first < call.experts; first += kWarpSize) {
      const int e = first + lane;
      int tiles = 0;
      if (e < call.experts) {
        tiles = (call.offsets[e + 1] - call.offsets[e] + kTileRows - 1) / kTileRows;
      }
#pragma unroll
      for (int step = 1; step < kWarpSize; step *= 2) {
        const int before = __shfl_up_sync(kFullWarp, tiles, step);
        if (lane >= step) tiles += before;
      }
      if (e < call.experts) tile_end[e] = total + tiles;
      total += __shfl_sync(kFullWarp, tiles, kWarpSize - 1);
    }
  }
  __syncthreads();
}

/// First expert whose end lies beyond `tile`.
__device__ inline int expert_of(const int* tile_end, int experts, std::int64_t tile,
                                std::int64_t column_tiles) {
  int low = 0, high = experts - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (tile_end[middle] * column_tiles > tile) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// Deals the tiles of a call, kTile x kTile each, in the same order to any number of blocks.
template <class Elem, class Out, GroupedForm kForm, int kTile>
class GroupedTiles {
 public:
  __device__ GroupedTiles(int* tile_end, const GroupedCall& call)
      : call_{call},
        tile_end_{tile_end},
        columns_{kForm == GroupedForm::nt ? call.n : call.k},
        column_tiles_{(columns_ + kTile - 1) / kTile} {
    if constexpr (kForm == GroupedForm::tn) {
      tiles_ = call.experts * ((call.n + kTile - 1) / kTile) * column_tiles_;
    } else {
      count_row_tiles<kTile>(tile_end, call);
      tiles_ = tile_end[call.experts - 1] * column_tiles_;
    }
  }
  [[nodiscard]] __device__ std::int64_t count() const { return tiles_; }

  [[nodiscard]] __device__ GroupedTile<Elem, Out> operator[](std::int64_t index) const {
    const auto* a = static_cast<const Elem*>(call_.a);
    const auto* b = static_cast<const Elem*>(call_.b);
    auto* c = static_cast<Out*>(call_.c);
    if constexpr (kForm == GroupedForm::tn) {
      const std::int64_t column = index % column_tiles_ * kTile;
      const std::int64_t row_tiles = (call_.n + kTile - 1) / kTile;
      const std::int64_t row = index / column_tiles_ % row_tiles * kTile;
      const auto e = static_cast<int>(index / column_tiles_ / row_tiles);
      const std::int64_t first = call_.offsets[e];
      return {a + first * call_.n + row,
              b + first * call_.k + column,
              c + (e * call_.n + row) * call_.k + column,
              call_.n,
              call_.k,
              call_.k,
              static_cast<int>(call_.n - row),
              static_cast<int>(call_.k - column),
              static_cast<int>(call_.offsets[e + 1] - first)};
    } else {
      const int e = expert_of(tile_end_, call_.experts, index, column_tiles_);
      const int tiles_before = e == 0 ? 0 : tile_end_[e - 1];
      const std::int64_t inside = index - tiles_before * column_tiles_;
      const std::int64_t row_tiles = tile_end_[e] - tiles_before;
      const std::int64_t row = call_.offsets[e] + inside % row_tiles * kTile;
      const std::int64_t column = inside / row_tiles * kTile;
      const std::int64_t inner = kForm == GroupedForm::nt ? call_.k : call_.n;
      const Elem* matrix = b + e * call_.n * call_.k;
      return {a + row * inner,
              kForm == GroupedForm::nt ? matrix + column * call_.k : matrix + column,
              c + row * columns_ + column,
              inner,
              call_.k,
              columns_,
              static_cast<int>(call_.offsets[e + 1] - row),
              static_cast<int>(columns_ - column),
              static_cast<int>(inner)};
    }
  }

 private:
  const GroupedCall& call_;
  const int* tile_end_;
  std::int64_t columns_, column_tiles_, tiles_;
};

/// Blocks for the worst case of R rows, at most as many as run at once.
struct GroupedGrid {
  std::int64_t rows;
  GroupedForm form;
  int tile, blocks_at_once;
};
[[nodiscard]] inline unsigned blocks_of(const GroupedCall& call, const GroupedGrid& g) {
  const std::int64_t columns = g.form == GroupedForm::nt ? call.n : call.k;
  const std::int64_t row_tiles = g.form == GroupedForm::tn
                                     ? call.experts * ceil_div(call.n, g.tile)
                                     : ceil_div(g.rows, g.tile) + call.experts;
  return blocks_for(row_tiles * ceil_div(columns, g.tile), 1, g.blocks_at_once);
}

[[nodiscard]] inline bool aligned_for_vectors(const void* a, const void* b, const void* c) {
  constexpr std::uintptr_t kBytes = 16;
  return (reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) |
          reinterpret_cast<std::uintptr_t>(c)) %
             kBytes ==
         0;
}

/// Whether the warpgroup kernel (hopper/grouped_kernel.cuh) can take a call of bf16 or f16: the
/// device has it, rows are read by the copy engine, and tiles are not mostly empty.
[[nodiscard]] inline bool allows_wgmma(const Exec& exec, const GroupedCall& call,
                                       std::int64_t rows) {
  constexpr std::int64_t kLeast = 64, kMostExperts = 4096;
  return kHasWgmma && exec.cuda().compute_capability == 90 && call.n % 8 == 0 && call.k % 8 == 0 &&
         aligned_for_vectors(call.a, call.b, call.c) && rows >= kLeast && call.n >= kLeast &&
         call.k >= kLeast && call.experts <= kMostExperts;
}

/// Overwrites or adds to one element.
template <class Out>
__device__ inline void store_sum(Out* c, float value, bool add) {
  *c = from_float<Out>(add ? to_float(*c) + value : value);
}

/// On tensor cores with mma.sync, for bf16 and f16.
template <GroupedForm kForm>
void grouped_mma(const Exec& exec, const GroupedCall& call, const GroupedGemm& args);

/// On Hopper's warpgroup products (hopper/grouped_kernel.cuh), where allows_wgmma says so.
template <GroupedForm kForm>
void grouped_wgmma(const Exec& exec, const GroupedCall& call, const GroupedGemm& args);

}  // namespace shoal::ops::cuda
