#pragma once
// fp32 values as sums of bf16 terms, each the rounded rest of those before it. Products of bf16 are
// exact in the fp32 sums of the tensor cores, so a product with all three terms is one with the
// fp32 value itself; two terms leave a relative error of 2^-18.
#include "ops/hopper/wgmma_registers.cuh"

namespace shoal::ops::cuda::hopper {

/// The terms of x (in the lower halves) and y.
template <int kTerms>
__device__ inline void split_pair(unsigned (&terms)[kTerms], float x, float y) {
#pragma unroll
  for (int i = 0; i < kTerms; ++i) {
    terms[i] = pack_pair<__nv_bfloat16>(x, y);
    x -= __uint_as_float(terms[i] << 16);
    y -= __uint_as_float(terms[i] & 0xFFFF0000U);
  }
}

/// Register `place` of the operand of each term from the pair of values that lies there.
template <int kTerms>
__device__ inline void split_into(RowsOperand (&operand)[kTerms], int place, float x, float y) {
  unsigned terms[kTerms];
  split_pair(terms, x, y);
#pragma unroll
  for (int i = 0; i < kTerms; ++i) operand[i][place] = terms[i];
}

}  // namespace shoal::ops::cuda::hopper
