#pragma once
// Maximum and sum of exponentials of a row of logits by one block, for the losses.
#include <cfloat>

#include "ops/cuda_common.cuh"

namespace shoal::ops::cuda {

/// The softmax of what was seen so far is exp(x - top) / sum. A finite start keeps inf - inf away.
struct SoftmaxTerms {
  float top = -FLT_MAX;
  float sum = 0.0F;
};

__device__ inline SoftmaxTerms merge(SoftmaxTerms a, SoftmaxTerms b) {
  const float top = fmaxf(a.top, b.top);
  return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
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

template <class Elem, int N>
__device__ SoftmaxTerms row_terms(const Elem* x_V, std::int64_t V) {
  SoftmaxTerms terms;
  for (std::int64_t v = std::int64_t{threadIdx.x} * N; v < V; v += std::int64_t{blockDim.x} * N) {
    const Vec<float, N> x = load_floats<N>(x_V + v);
    float top = terms.top;
#pragma unroll
    for (int i = 0; i < N; ++i) top = fmaxf(top, x.v[i]);
    terms.sum *= expf(terms.top - top);
    terms.top = top;
#pragma unroll
    for (int i = 0; i < N; ++i) terms.sum += expf(x.v[i] - top);
  }
  return block_merge(terms);
}

}  // namespace shoal::ops::cuda
