#pragma once
// What happens to the sums of a tile: how they leave the registers of a warpgroup. A quad of lanes
// holds a row; its lanes exchange sums so that each owns eight neighbouring columns, 16 bytes.
#include "ops/hopper/grouped_tiles.cuh"
#include "ops/hopper/wgmma.cuh"
#include "ops/swiglu.cuh"

namespace shoal::ops::cuda::hopper {

/// Eight neighbouring elements of two bytes.
using Eight = uint4;

template <class Elem>
__device__ inline unsigned pack_pair(float x, float y) {
  union {
    Elem elem[2];
    unsigned word;
  } pair;
  pair.elem[0] = from_float<Elem>(x);
  pair.elem[1] = from_float<Elem>(y);
  return pair.word;
}
template <class Elem>
__device__ inline Vec<float, 8> unpack(const Eight& eight) {
  return load_floats<8>(reinterpret_cast<const Elem*>(&eight));
}
template <class Elem>
__device__ inline Eight pack(const Vec<float, 8>& x) {
  return {pack_pair<Elem>(x.v[0], x.v[1]), pack_pair<Elem>(x.v[2], x.v[3]),
          pack_pair<Elem>(x.v[4], x.v[5]), pack_pair<Elem>(x.v[6], x.v[7])};
}

/// Lane t of a quad gives pair t of four blocks of eight columns and gets all four pairs of block
/// t: the transpose of a 4 x 4 matrix across lanes, in two exchanges.
__device__ inline Eight exchange_in_quad(unsigned p0, unsigned p1, unsigned p2, unsigned p3,
                                         int t) {
  const bool odd = (t & 1) != 0, upper = (t & 2) != 0;
  const unsigned r0 = __shfl_xor_sync(kFullWarp, odd ? p0 : p1, 1);
  const unsigned r1 = __shfl_xor_sync(kFullWarp, odd ? p2 : p3, 1);
  const uint2 low = odd ? uint2{r0, p1} : uint2{p0, r0};   // of block t % 2
  const uint2 high = odd ? uint2{r1, p3} : uint2{p2, r1};  // of block t % 2 + 2
  const unsigned x = __shfl_xor_sync(kFullWarp, upper ? low.x : high.x, 2);
  const unsigned y = __shfl_xor_sync(kFullWarp, upper ? low.y : high.y, 2);
  return upper ? Eight{x, y, high.x, high.y} : Eight{low.x, low.y, x, y};
}

/// Where a thread's sums lie in its tile (wgmma.cuh).
struct SumPlace {
  int row;   // of the first half; the second is eight rows below
  int quad;  // place in the quad, t % 4

  __device__ SumPlace(int warpgroup, int thread)
      : row{warpgroup * 64 + thread / kWarpSize * 16 + thread % kWarpSize / 4}, quad{thread % 4} {}
};

/// Blocks [block, block + 4) of half `half` rounded to Elem: this lane's eight columns begin at
/// 8 (block + quad).
template <class Elem, int kSums>
__device__ inline Eight eight_of(const float (&sums)[kSums], int block, int half, int quad) {
  const auto pair = [&](int b) {
    return pack_pair<Elem>(sums[b * 4 + half * 2], sums[b * 4 + half * 2 + 1]);
  };
  return exchange_in_quad(pair(block), pair(block + 1), pair(block + 2), pair(block + 3), quad);
}

/// Calls body(row of the tile, column of the tile, block, half) for each group of four blocks.
template <int kBlocks, class Body>
__device__ inline void for_each_eight(const SumPlace& place, const Body& body) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int block = 0; block < kBlocks; block += 4) {
      body(place.row + half * 8, (block + place.quad) * 8, block, half);
    }
  }
}

template <class Elem>
__device__ inline void store_eight(Elem* target, const Eight& value) {
  *reinterpret_cast<Eight*>(target) = value;
}

/// c [R, columns] = sums.
template <class Elem>
struct StoreRows {
  static constexpr int kColumnRanges = 1;
  Elem* c;
  int columns;
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
  float* c;
  std::int64_t matrix_elements;
  int columns;
  bool add;
  template <int kSums>
  __device__ void operator()(const float (&sums)[kSums], const Tile& tile,
                             const SumPlace& place) const {
    constexpr int kBatch = 8;  // loads under way at once
    float* corner = c + tile.expert * matrix_elements +
                    std::int64_t{tile.row + place.row} * columns + tile.column + place.quad * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (place.row + half * 8 >= tile.rows) continue;
#pragma unroll
      for (int first = 0; first < kSums / 4; first += kBatch) {
        Vec<float, 2> value[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int column = (first + i) * 8;
          const bool inside = tile.column + column < columns;
          value[i] =
              add && inside ? load_vec<2>(corner + half * 8 * columns + column) : Vec<float, 2>{};
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int column = (first + i) * 8, at = (first + i) * 4 + half * 2;
          if (tile.column + column >= columns) continue;
          store_vec(corner + half * 8 * columns + column,
                    Vec<float, 2>{{value[i].v[0] + sums[at], value[i].v[1] + sums[at + 1]}});
        }
      }
    }
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

/// dgate_up [R, 2F] from sums = dh [R, F] and the saved gate_up.
template <class Elem>
struct StoreSwigluGradient {
  static constexpr int kColumnRanges = 1;
  Elem* dgate_up;
  const Elem* gate_up;
  int columns;  // F
  template <int kSums>
  __device__ void operator()(const float (&sums)[kSums], const Tile& tile,
                             const SumPlace& place) const {
    for_each_eight<kSums / 4>(place, [&](int row, int column, int block, int half) {
      const Eight dh = eight_of<Elem>(sums, block, half, place.quad);
      const int f = tile.column + column;
      if (row >= tile.rows || f >= columns) return;
      const std::int64_t at = std::int64_t{tile.row + row} * 2 * columns + f;
      const auto saved = [&](std::int64_t i) {
        return unpack<Elem>(__ldg(reinterpret_cast<const Eight*>(gate_up + i)));
      };
      const Vec<float, 8> d = unpack<Elem>(dh), g = saved(at), u = saved(at + columns);
      Vec<float, 8> dgate, dup;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const SwigluGradient gradient = swiglu_gradient(d.v[i], g.v[i], u.v[i]);
        dgate.v[i] = gradient.gate;
        dup.v[i] = gradient.up;
      }
      store_eight(dgate_up + at, pack<Elem>(dgate));
      store_eight(dgate_up + at + columns, pack<Elem>(dup));
    });
  }
};

}  // namespace shoal::ops::cuda::hopper
