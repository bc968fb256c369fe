#pragma once
// Maximum and sum of exponentials of a row of logits by one block, for the losses.
#include <cfloat>

#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {

/// e^x within a few units in the last place for x <= 0; 0 below -87.
__device__ inline float exp_of(float x) {
  constexpr float kLog2E = 1.44269504F;
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * kLog2E));
  return y;
}

/// The softmax of what was seen so far is exp(x - top) / sum. A finite start keeps inf - inf away.
struct SoftmaxTerms {
  float top = -FLT_MAX;
  float sum = 0.0F;
};

__device__ inline SoftmaxTerms merge(SoftmaxTerms a, SoftmaxTerms b) {
  const float top = fmaxf(a.top, b.top);
  return {top, a.sum * exp_of(a.top - top) + b.sum * exp_of(b.top - top)};
}

/// All lanes get the merged terms of the warp; both partners of a step merge in the same order.
__device__ inline SoftmaxTerms warp_merge(SoftmaxTerms x) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const SoftmaxTerms other{__shfl_xor_sync(kFullWarp, x.top, offset),
                             __shfl_xor_sync(kFullWarp, x.sum, offset)};
    const bool lower = (threadIdx.x & static_cast<unsigned>(offset)) == 0;
    x = lower ? merge(x, other) : merge(other, x);
  }
  return x;
}

__device__ inline SoftmaxTerms block_merge(SoftmaxTerms x) {
  __shared__ SoftmaxTerms partial[kWarpSize];
  const unsigned lane = threadIdx.x % kWarpSize;
  x = warp_merge(x);
  if (lane == 0) partial[threadIdx.x / kWarpSize] = x;
  __syncthreads();
  return warp_merge(lane < blockDim.x / kWarpSize ? partial[lane] : SoftmaxTerms{});
}

/// The terms with N more logits.
template <int N>
__device__ inline SoftmaxTerms extend(SoftmaxTerms terms, const Vec<float, N>& x) {
  float top = terms.top;
#pragma unroll
  for (int i = 0; i < N; ++i) top = fmaxf(top, x.v[i]);
  float sum = terms.sum * exp_of(terms.top - top);
#pragma unroll
  for (int i = 0; i < N; ++i) sum += exp_of(x.v[i] - top);
  return {top, sum};
}

/// Over a row; all threads of the block get them. With `kept_V`, in shared memory, each thread
/// leaves there what it read.
template <class Elem, int N>
__device__ SoftmaxTerms row_terms(const Elem* x_V, std::int64_t V, Elem* kept_V = nullptr) {
  constexpr int kBatch = 4;  // loads that are on their way together
  const std::int64_t step = std::int64_t{blockDim.x} * N;
  SoftmaxTerms terms;
  for (std::int64_t first = std::int64_t{threadIdx.x} * N; first < V; first += step * kBatch) {
    Vec<Elem, N> x[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (first + j * step < V) x[j] = load_vec<N>(x_V + first + j * step);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (first + j * step >= V) break;
      if (kept_V != nullptr) store_vec(kept_V + first + j * step, x[j]);
      terms = extend(terms, to_floats(x[j]));
    }
  }
  return block_merge(terms);
}

}  // namespace shoal::ops::cuda
