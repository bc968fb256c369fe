#pragma once
// A token's experts in the registers of neighbouring lanes of a warp. Lane l holds the experts
// 4 (l + kLanes q) + i, i < 4, of kQuads quads q: a lane reads 16 bytes of a row at a time. All
// lanes of a warp take part in exchanges, also those whose token lies beyond the last.
#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {

template <int kLanesValue, int kQuadsValue>
struct Lanes {
  static constexpr int kLanes = kLanesValue, kQuads = kQuadsValue, kEach = 4 * kQuads;
  using Row = float[kEach];

  /// This thread's place among the lanes of its token.
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  __device__ static int expert(int i) { return 4 * (lane() + i / 4 * kLanes) + i % 4; }

  __device__ static void load(Row& x, const float* row_E, int E, float beyond) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int first = expert(4 * q);
      if (E % 4 == 0 && first < E) {
        const Vec<float, 4> quad = load_vec<4>(row_E + first);
#pragma unroll
        for (int i = 0; i < 4; ++i) x[4 * q + i] = quad.v[i];
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) x[4 * q + i] = first + i < E ? row_E[first + i] : beyond;
      }
    }
  }
  __device__ static void store(float* row_E, const Row& x, int E) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int first = expert(4 * q);
      if (E % 4 == 0 && first < E) {
        store_vec(row_E + first,
                  Vec<float, 4>{{x[4 * q], x[4 * q + 1], x[4 * q + 2], x[4 * q + 3]}});
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (first + i < E) row_E[first + i] = x[4 * q + i];
        }
      }
    }
  }

  /// Over the lanes of the token, in a fixed order; every lane gets the result.
  __device__ static float all_sum(float x) {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      x += __shfl_xor_sync(kFullWarp, x, offset);
    }
    return x;
  }
  __device__ static float all_max(float x) {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
    }
    return x;
  }
  __device__ static float row_sum(const Row& x) {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += x[i];
    return all_sum(sum);
  }
  __device__ static float row_max(const Row& x) {
    float top = x[0];
#pragma unroll
    for (int i = 1; i < kEach; ++i) top = fmaxf(top, x[i]);
    return all_max(top);
  }
  __device__ static float logsumexp(const Row& logit) {
    const float top = row_max(logit);
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += expf(logit[i] - top);
    return top + logf(all_sum(sum));
  }
};

/// Calls `body(Lanes<...>{})` for rows of up to 512 experts.
template <class Body>
void with_lanes(std::int64_t E, Body&& body) {
  if (E <= 16) return body(Lanes<4, 1>{});
  if (E <= 32) return body(Lanes<4, 2>{});
  if (E <= 64) return body(Lanes<4, 4>{});
  if (E <= 128) return body(Lanes<8, 4>{});
  if (E <= 256) return body(Lanes<16, 4>{});
  body(Lanes<32, 4>{});
}

}  // namespace shoal::ops::cuda
