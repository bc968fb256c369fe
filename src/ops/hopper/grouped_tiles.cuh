#pragma once
// The order in which persistent blocks take the tiles of a grouped product. Offsets are known on
// the device only: every block counts the row tiles of all experts at its start, then steps through
// the same list of tiles. Neighbouring tiles of the list run at the same time: they come from a
// panel of a few row tiles of one expert, so that both operands are read from the L2 cache.
#include "ops/grouped_gemm.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kTileRows = 128;
inline constexpr int kPanelTiles = 16;  // row tiles of a panel

/// A tile of c: for nt and nn the rows are rows of R, for tn rows of the expert's matrix.
struct Tile {
  int expert;
  int row, column;  // first row and column in c
  int rows;         // rows of c from `row` on that are the expert's, possibly more than a tile
  int inner_begin, inner;  // range of the inner dimension
};

template <GroupedForm kForm, int kColumns>
class TileList {
 public:
  /// `tile_end`: room for an int for each expert. All threads of the block call.
  __device__ TileList(int* tile_end, const GroupedCall& call, int columns)
      : call_{call}, tile_end_{tile_end}, column_tiles_{(columns + kColumns - 1) / kColumns} {
    if constexpr (kForm == GroupedForm::tn) {
      count_ = call.experts * row_tiles_of_matrix() * column_tiles_;
    } else {
      count_row_tiles<kTileRows>(tile_end, call);
      count_ = tile_end[call.experts - 1] * column_tiles_;
    }
  }
  [[nodiscard]] __device__ int count() const { return count_; }

  /// Indices must not descend from call to call.
  [[nodiscard]] __device__ Tile take(int index) {
    if constexpr (kForm == GroupedForm::tn) {
      const int per_expert = row_tiles_of_matrix() * column_tiles_;
      const int e = index / per_expert;
      const Place place = place_in(index % per_expert, row_tiles_of_matrix());
      const int begin = call_.offsets[e];
      return {.expert = e,
              .row = place.row,
              .column = place.column,
              .rows = static_cast<int>(call_.n) - place.row,
              .inner_begin = begin,
              .inner = call_.offsets[e + 1] - begin};
    } else {
      while (tile_end_[expert_] * column_tiles_ <= index) ++expert_;
      const int before = expert_ == 0 ? 0 : tile_end_[expert_ - 1];
      const Place place = place_in(index - before * column_tiles_, tile_end_[expert_] - before);
      const int row = call_.offsets[expert_] + place.row;
      return {.expert = expert_,
              .row = row,
              .column = place.column,
              .rows = call_.offsets[expert_ + 1] - row,
              .inner_begin = 0,
              .inner = static_cast<int>(kForm == GroupedForm::nt ? call_.k : call_.n)};
    }
  }

 private:
  struct Place {
    int row, column;
  };
  /// Panels of kPanelTiles row tiles, in each column after column.
  [[nodiscard]] __device__ Place place_in(int index, int row_tiles) const {
    const int panel = index / (kPanelTiles * column_tiles_);
    const int inside = index - panel * kPanelTiles * column_tiles_;
    const int height = min(kPanelTiles, row_tiles - panel * kPanelTiles);
    return {(panel * kPanelTiles + inside % height) * kTileRows, inside / height * kColumns};
  }
  [[nodiscard]] __device__ int row_tiles_of_matrix() const {
    return (static_cast<int>(call_.n) + kTileRows - 1) / kTileRows;
  }

  const GroupedCall& call_;
  const int* tile_end_;
  int column_tiles_;
  int count_ = 0;
  int expert_ = 0;
};

}  // namespace shoal::ops::cuda::hopper
