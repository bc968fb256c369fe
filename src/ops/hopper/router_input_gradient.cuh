#pragma once
// dx = dlogits w of a router: [T, E] by [E, D], both fp32, rounded to bf16 once. The inner
// dimension is short and the result is what moves: a block keeps its 128 columns of w in shared
// memory, split into two bf16 terms, and steps through tiles of 64 tokens. Each thread reads the
// elements of dlogits that its operand registers hold, splits them, and three of the four products
// of terms are summed; the fourth and what two terms leave out are below 2^-16 of a product, bf16
// keeps 2^-9.
#include "ops/hopper/bf16_terms.cuh"
#include "ops/hopper/operand.cuh"
#include "ops/hopper/sum_rows.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kSlabColumns = 128;
inline constexpr int kSlabTokens = 64;
inline constexpr int kSlabExperts = 64;  // of a chunk of w
inline constexpr int kSlabTerms = 2;
inline constexpr int kSlabBlocks = 3;  // of a multiprocessor, if shared memory allows

using SlabOperand = Operand<kSlabColumns, true>;

struct InputGradientCall {
  __nv_bfloat16* dx;
  const float* dlogits;
  const float* w;
  std::int64_t tokens;
  int experts, columns;
};

/// Terms of w's columns: [terms, chunks of experts], each an operand with experts as inner index.
struct Slab {
  unsigned char* raw;
  int chunks;

  [[nodiscard]] static std::size_t bytes(int experts) {
    return kSwizzleBytes + std::size_t{kSlabTerms * SlabOperand::kBytes} *
                               static_cast<std::size_t>(ceil_div(experts, kSlabExperts));
  }
  [[nodiscard]] __device__ unsigned char* chunk(int term, int index) const {
    return raw + static_cast<unsigned>(term * chunks + index) * SlabOperand::kBytes;
  }
  [[nodiscard]] __device__ std::uint64_t operand(int term, int index, int inner) const {
    return SlabOperand::descriptor(shared_address(chunk(term, index)), 0, inner);
  }
  /// Eight columns of an expert, beyond w zeros. All threads of the block call.
  __device__ void fill(const InputGradientCall& call, int column0) const {
    constexpr int kUnits = kSlabColumns / 8;
    for (int i = static_cast<int>(threadIdx.x); i < chunks * kSlabExperts * kUnits;
         i += kWarpgroup) {
      const int expert = i / kUnits, unit = i % kUnits, column = column0 + unit * 8;
      Vec<float, 8> x{};
      if (expert < call.experts && column < call.columns) {
        x = load_vec<8>(call.w + std::int64_t{expert} * call.columns + column);
      }
      RowsOperand terms[kSlabTerms];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        split_into(terms, pair, x.v[2 * pair], x.v[2 * pair + 1]);
      }
      const int line = expert % kSlabExperts, box = unit * 8 / kBoxRow;
      const unsigned offset =
          static_cast<unsigned>(box) * SlabOperand::kBoxBytes +
          static_cast<unsigned>(line * kBoxRowBytes + (unit % 8 ^ line % 8) * 16);
#pragma unroll
      for (int term = 0; term < kSlabTerms; ++term) {
        *reinterpret_cast<uint4*>(chunk(term, expert / kSlabExperts) + offset) =
            uint4{terms[term][0], terms[term][1], terms[term][2], terms[term][3]};
      }
    }
    fence_async_proxy();
  }
};

/// The elements of dlogits that this thread's operands hold, 64 experts from `expert0` on.
__device__ inline void load_gradients(Vec<float, 2> (&pairs)[16], const InputGradientCall& call,
                                      std::int64_t token, int expert0) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const std::int64_t t = token + i % 2 * 8;
    const int expert = expert0 + i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
    pairs[i] = Vec<float, 2>{};
    if (t < call.tokens && expert < call.experts) {
      pairs[i] = load_vec<2>(call.dlogits + t * call.experts + expert);
    }
  }
}

/// sums += dlogits w over one chunk of experts.
__device__ inline void multiply_chunk(float (&sums)[64], const Vec<float, 2> (&pairs)[16],
                                      const Slab& slab, int chunk) {
  using Elem = __nv_bfloat16;
  RowsOperand terms[4][kSlabTerms];
#pragma unroll
  for (int i = 0; i < 16; ++i) split_into(terms[i / 4], i % 4, pairs[i].v[0], pairs[i].v[1]);
  begin_products();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const int inner = step * kProductInner;
    multiply_add<Elem, true>(sums, terms[step][1], slab.operand(0, chunk, inner));
    multiply_add<Elem, true>(sums, terms[step][0], slab.operand(1, chunk, inner));
    multiply_add<Elem, true>(sums, terms[step][0], slab.operand(0, chunk, inner));
  }
  commit_products();
  wait_products<0>();
}

__global__ void __launch_bounds__(kWarpgroup, kSlabBlocks)
    input_gradient_kernel(const InputGradientCall call) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  const unsigned gap = (kSwizzleBytes - shared_address(raw) % kSwizzleBytes) % kSwizzleBytes;
  const Slab slab{raw + gap, (call.experts + kSlabExperts - 1) / kSlabExperts};
  const int column0 = static_cast<int>(blockIdx.x) * kSlabColumns;
  slab.fill(call, column0);
  __syncthreads();
  const SumPlace place{0, static_cast<int>(threadIdx.x)};
  for (std::int64_t first = std::int64_t{blockIdx.y} * kSlabTokens; first < call.tokens;
       first += std::int64_t{gridDim.y} * kSlabTokens) {
    float sums[64] = {};
    for (int chunk = 0; chunk < slab.chunks; ++chunk) {
      Vec<float, 2> pairs[16];
      load_gradients(pairs, call, first + place.row, chunk * kSlabExperts);
      multiply_chunk(sums, pairs, slab, chunk);
    }
    for_each_eight<16>(place, [&](int row, int column, int block, int half) {
      const Eight value = eight_of<__nv_bfloat16>(sums, block, half, place.quad);
      if (first + row >= call.tokens || column0 + column >= call.columns) return;
      store_eight(call.dx + (first + row) * call.columns + column0 + column, value);
    });
  }
#else
  __trap();  // the launcher chooses this kernel on compute capability 9.0 only
#endif
}

}  // namespace shoal::ops::cuda::hopper
