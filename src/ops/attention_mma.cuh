#pragma once
// Tiles of attention on tensor cores. A warp owns 16 rows of a tile of scores; the sums of one
// product become, rounded, the operand of the next without leaving its registers.
#include "ops/attention.cuh"
#include "ops/mma.cuh"

namespace shoal::ops::cuda {

inline constexpr int kRowsPerWarp = 16;

/// Rows of one head in shared memory, padded with zeros to D columns.
template <int D>
inline constexpr int kTilePitch = D + 8;
template <class Elem, int D>
struct HeadTile {
  Elem* data;
  [[nodiscard]] __device__ unsigned at(int row, int column) const {
    return SharedTile<Elem, kTilePitch<D>>{data}.at(row, column);
  }
};

/// Starts the copy of rows [t0, t0 + kRows) of a head; rows from `tokens` on become zeros.
template <int kRows, int kThreads, int D, class Elem>
__device__ inline void load_tile(const HeadTile<Elem, D>& tile, const HeadData<const Elem>& from,
                                 int head, int t0, int tokens, bool vectors) {
  constexpr int kChunks = D / 8;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8;
    const int valid = t0 + row < tokens ? from.head_dim - column : 0;
    Elem* to = tile.data + row * kTilePitch<D> + column;
    const Elem* source = from.row(head, t0 + row) + column;
    if (vectors) {
      copy_eight<true>(to, source, from.data, valid);
    } else {
      copy_eight<false>(to, source, from.data, valid);
    }
  }
}

/// c = rows [row, row+16) of a times all kN rows of b, transposed: 16 x kN.
template <int D, int kN, class Elem>
__device__ inline void multiply_rows(FragmentC (&c)[kN / 8], const HeadTile<Elem, D>& a, int row,
                                     const HeadTile<Elem, D>& b, int lane) {
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) c[j] = {};
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    const FragmentA left = load_a(a, row, k, lane);
#pragma unroll
    for (int j = 0; j < kN / 16; ++j) {
      FragmentB right[2];
      load_b(right, b, j * 16, k, lane);
      multiply_add<Elem>(c[2 * j], left, right[0]);
      multiply_add<Elem>(c[2 * j + 1], left, right[1]);
    }
  }
}

/// sum (16 x kColumns) += weight (16 x kN, rounded) times columns [column, column + kColumns) of b.
template <int D, int kN, int kColumns, class Elem>
__device__ inline void add_weighted(FragmentC (&sum)[kColumns / 8],
                                    const FragmentC (&weight)[kN / 8], const HeadTile<Elem, D>& b,
                                    int column, int lane) {
#pragma unroll
  for (int k = 0; k < kN / 16; ++k) {
    const FragmentA left = as_operand<Elem>(weight[2 * k], weight[2 * k + 1]);
#pragma unroll
    for (int j = 0; j < kColumns / 16; ++j) {
      FragmentB right[2];
      load_b_transposed(right, b, column + j * 16, k * 16, lane);
      multiply_add<Elem>(sum[2 * j], left, right[0]);
      multiply_add<Elem>(sum[2 * j + 1], left, right[1]);
    }
  }
}

/// Writes half a warp's sums, row g (half 0) or g + 8 (half 1), times `factor`, to one row.
template <int kColumns, class Elem>
__device__ inline void store_row(Elem* to, const FragmentC (&sum)[kColumns / 8], int half,
                                 float factor, int columns_left, int lane, bool vectors) {
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    const int c = j * 8 + lane % 4 * 2;
    const float x = sum[j].r[2 * half] * factor, y = sum[j].r[2 * half + 1] * factor;
    if (vectors) {
      if (c < columns_left) store_floats(to + c, Vec<float, 2>{{x, y}});
    } else {
      if (c < columns_left) to[c] = from_float<Elem>(x);
      if (c + 1 < columns_left) to[c + 1] = from_float<Elem>(y);
    }
  }
}

}  // namespace shoal::ops::cuda
