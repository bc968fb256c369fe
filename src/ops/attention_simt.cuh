#pragma once
// Attention in exact fp32 on the ordinary cores, for parity and small models. A warp owns four rows
// (queries, or keys in the key gradient); a lane owns one of 32 columns of the tile of scores, and
// afterwards every 32nd value of the four rows of sums.
#include "ops/attention.cuh"

namespace shoal::ops::cuda {

inline constexpr int kSimtWarps = 8;
inline constexpr int kSimtThreads = kSimtWarps * kWarpSize;
inline constexpr int kSimtRows = 4;                            // of each warp
inline constexpr int kSimtBlockRows = kSimtWarps * kSimtRows;  // 32
inline constexpr int kSimtColumns = kWarpSize;

/// 32 rows of a head in shared memory, zero-padded to D columns; the pitch spreads the lanes'
/// 16-byte reads over all banks.
template <int D>
struct FloatTile {
  static constexpr int kPitch = D + 4;
  static constexpr int kElements = 32 * kPitch;
  float* data;

  __device__ void load(const HeadData<const float>& from, int head, int t0, int tokens) const {
    for (int i = static_cast<int>(threadIdx.x); i < 32 * D; i += kSimtThreads) {
      const int row = i / D, column = i % D;
      const bool valid = t0 + row < tokens && column < from.head_dim;
      data[row * kPitch + column] = valid ? from.row(head, t0 + row)[column] : 0.0F;
    }
  }
  [[nodiscard]] __device__ const float* row(int r) const { return data + r * kPitch; }
};

/// dot[i] = <row first + i of `rows`, row `lane` of `columns`>.
template <int D>
__device__ inline void dot_rows(float (&dot)[kSimtRows], const FloatTile<D>& rows, int first,
                                const FloatTile<D>& columns, int lane) {
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) dot[i] = 0.0F;
  for (int k = 0; k < D; k += 4) {
    const auto mine = load_vec<4>(columns.row(lane) + k);
#pragma unroll
    for (int i = 0; i < kSimtRows; ++i) {
      const auto theirs = load_vec<4>(rows.row(first + i) + k);
#pragma unroll
      for (int e = 0; e < 4; ++e) dot[i] = fmaf(theirs.v[e], mine.v[e], dot[i]);
    }
  }
}

/// sum[i] += sum over columns j of weight[i] of lane j times row j of `columns`; lane l keeps
/// values l, l + 32, ...
template <int D>
__device__ inline void add_rows(float (&sum)[kSimtRows][D / 32], const float (&weight)[kSimtRows],
                                const FloatTile<D>& columns, int lane) {
  for (int j = 0; j < kSimtColumns; ++j) {
    float w[kSimtRows];
#pragma unroll
    for (int i = 0; i < kSimtRows; ++i) w[i] = __shfl_sync(kFullWarp, weight[i], j);
#pragma unroll
    for (int n = 0; n < D / 32; ++n) {
      const float value = columns.row(j)[n * 32 + lane];
#pragma unroll
      for (int i = 0; i < kSimtRows; ++i) sum[i][n] = fmaf(w[i], value, sum[i][n]);
    }
  }
}

template <int D>
__device__ inline void store_values(float* to, const float (&sum)[D / 32], float factor,
                                    int head_dim, int lane) {
#pragma unroll
  for (int n = 0; n < D / 32; ++n) {
    if (n * 32 + lane < head_dim) to[n * 32 + lane] = sum[n] * factor;
  }
}

}  // namespace shoal::ops::cuda
