#pragma once
// What happens to the sums of a tile: how they leave the registers of a warpgroup.
#include "ops/hopper/grouped_tiles.cuh"
#include "ops/hopper/sum_rows.cuh"
#include "ops/swiglu.cuh"

namespace shoal::ops::cuda::hopper {

template <class Elem>
__device__ inline Vec<float, 8> unpack(const Eight& eight) {
  return load_floats<8>(reinterpret_cast<const Elem*>(&eight));
}
template <class Elem>
__device__ inline Eight pack(const Vec<float, 8>& x) {
  return {pack_pair<Elem>(x.v[0], x.v[1]), pack_pair<Elem>(x.v[2], x.v[3]),
          pack_pair<Elem>(x.v[4], x.v[5]), pack_pair<Elem>(x.v[6], x.v[7])};
}

/// Brings `kLines` lines of 128 bytes into the L2 cache.
template <int kLines>
__device__ inline void prefetch_lines(const void* first) {
#pragma unroll
  for (int i = 0; i < kLines; ++i) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const char*>(first) + i * 128));
  }
}
/// Two of the 256 consumer threads look after each row of a tile.
struct RowHelper {
  int row, half;
  __device__ RowHelper()
      : row{(static_cast<int>(threadIdx.x) - kWarpgroup) / 2},
        half{static_cast<int>(threadIdx.x) % 2} {}
};

/// c [R, columns] = sums.
template <class Elem>
struct StoreRows {
  static constexpr int kColumnRanges = 1;
  Elem* c;
  int columns;
  __device__ void prepare(const Tile& /*tile*/) const {}
  template <int kSums>
  __device__ void operator()(const float (&sums)[kSums], const Tile& tile,
                             const SumPlace& place) const {
    for_each_eight<kSums / 4>(place, [&](int row, int column, int block, int half) {
      const Eight value = eight_of<Elem>(sums, block, half, place.quad);
      if (row >= tile.rows || tile.column + column >= columns) return;
      store_eight(c + std::int64_t{tile.row + row} * columns + tile.column + column, value);
    });
  }
};

/// c [E, N, K] = sums, or += sums, in fp32.
struct StoreMatrix {
  static constexpr int kColumnRanges = 1;
  static constexpr int kBatch = 16;  // loads under way at once
  float* c;
  std::int64_t matrix_elements;
  int columns;
  bool add;

  /// Before the products of a tile: what will be added to comes closer.
  __device__ void prepare(const Tile& tile) const {
    const RowHelper own;
    const int column = tile.column + own.half * 128;
    if (add && own.row < tile.rows && column + 128 <= columns) {
      prefetch_lines<4>(at(tile, own.row) + column);
    }
  }
  template <int kSums>
  __device__ void operator()(const float (&sums)[kSums], const Tile& tile,
                             const SumPlace& place) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (place.row + half * 8 >= tile.rows) continue;
      float* row = at(tile, place.row + half * 8);
      const int first = tile.column + place.quad * 2;
#pragma unroll
      for (int block = 0; block < kSums / 4; block += kBatch) {
        Vec<float, 2> value[kBatch] = {};
        if (add) {
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {  // beyond c: any element of the row
            value[i] = load_vec<2>(row + min(first + (block + i) * 8, columns - 2));
          }
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int column = first + (block + i) * 8, sum = (block + i) * 4 + half * 2;
          if (column >= columns) continue;
          store_vec(row + column,
                    Vec<float, 2>{{value[i].v[0] + sums[sum], value[i].v[1] + sums[sum + 1]}});
        }
      }
    }
  }

 private:
  [[nodiscard]] __device__ float* at(const Tile& tile, int row) const {
    return c + tile.expert * matrix_elements + std::int64_t{tile.row + row} * columns;
  }
};

/// gate_up [R, 2F] = sums and h [R, F] = silu(gate) * up. The first half of the tile's columns are
/// gates from tile.column / 2 on, the second half the ups that belong to them.
template <class Elem>
struct StoreSwiglu {
  static constexpr int kColumnRanges = 2;
  Elem* gate_up;
  Elem* h;
  int columns;  // F
  __device__ void prepare(const Tile& /*tile*/) const {}
  template <int kSums>
  __device__ void operator()(const float (&sums)[kSums], const Tile& tile,
                             const SumPlace& place) const {
    constexpr int kGateBlocks = kSums / 8;
    for_each_eight<kGateBlocks>(place, [&](int row, int column, int block, int half) {
      const Eight gate = eight_of<Elem>(sums, block, half, place.quad);
      const Eight up = eight_of<Elem>(sums, block + kGateBlocks, half, place.quad);
      const int f = tile.column / 2 + column;
      if (row >= tile.rows || f >= columns) return;
      const std::int64_t r = tile.row + row;
      store_eight(gate_up + r * 2 * columns + f, gate);
      store_eight(gate_up + r * 2 * columns + columns + f, up);
      const Vec<float, 8> g = unpack<Elem>(gate), u = unpack<Elem>(up);
      Vec<float, 8> out;
#pragma unroll
      for (int i = 0; i < 8; ++i) out.v[i] = swiglu(g.v[i], u.v[i]);
      store_eight(h + r * columns + f, pack<Elem>(out));
    });
  }
};

}  // namespace shoal::ops::cuda::hopper
