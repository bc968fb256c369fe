#pragma once
// Sums of a warpgroup as rows of two-byte elements. A quad of lanes holds a row; its lanes exchange
// sums so that each owns eight neighbouring columns, 16 bytes.
#include "ops/hopper/wgmma_registers.cuh"

namespace shoal::ops::cuda::hopper {

/// Eight neighbouring elements of two bytes.
using Eight = uint4;

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

}  // namespace shoal::ops::cuda::hopper
