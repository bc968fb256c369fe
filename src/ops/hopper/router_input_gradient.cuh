#pragma once
// dx = dlogits w of a router: [T, E] by [E, D], both fp32, rounded to bf16 once. The inner
// dimension is short and the result is what moves: a block keeps its 128 columns of w in shared
// memory, split into two bf16 terms, and each of its warpgroups steps through tiles of 64 tokens. A
// thread reads the elements of dlogits that its operand registers hold, those of the next products
// while the present ones are under way, and splits them. Three of the four products of terms are
// summed; the fourth and what two terms leave out are below 2^-16 of a product, where bf16 keeps
// 2^-9.
#include "ops/hopper/bf16_terms.cuh"
#include "ops/hopper/operand.cuh"
#include "ops/hopper/sum_rows.cuh"

namespace shoal::ops::cuda::hopper {

inline constexpr int kSlabColumns = 128;
inline constexpr int kSlabTokens = 64;
inline constexpr int kSlabExperts = 64;  // of a chunk of w
inline constexpr int kSlabTerms = 2;
inline constexpr int kSlabWarpgroups = 3;
inline constexpr int kSlabThreads = kSlabWarpgroups * kWarpgroup;

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
         i += kSlabThreads) {
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

/// The elements of dlogits that this thread's operands hold, 64 experts from `expert0` on, of its
/// rows `token` and token + 8.
__device__ inline void load_gradients(Vec<float, 2> (&pairs)[16], const InputGradientCall& call,
                                      std::int64_t token, int expert0) {
  const int expert = expert0 + static_cast<int>(threadIdx.x) % 4 * 2;
  const float* row = call.dlogits + token * call.experts + expert;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int left = token + half * 8 < call.tokens ? call.experts - expert : 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      pairs[2 * i + half] = i * 8 < left ? load_vec<2>(row + i * 8) : Vec<float, 2>{};
    }
    row += 8 * call.experts;
  }
}

/// Starts sums += dlogits w over one chunk of experts; `terms` must not change before the end.
__device__ inline void multiply_chunk(float (&sums)[64], const RowsOperand (&terms)[4][kSlabTerms],
                                      const Slab& slab, int chunk) {
  using Elem = __nv_bfloat16;
  begin_products();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const int inner = step * kProductInner;
    multiply_add<Elem, true>(sums, terms[step][1], slab.operand(0, chunk, inner));
    multiply_add<Elem, true>(sums, terms[step][0], slab.operand(1, chunk, inner));
    multiply_add<Elem, true>(sums, terms[step][0], slab.operand(0, chunk, inner));
  }
  commit_products();
}

__device__ inline void store_rows(const float (&sums)[64], const InputGradientCall& call,
                                  std::int64_t first, int column0, const SumPlace& place) {
  const int column = column0 + place.quad * 8;
  __nv_bfloat16* row = call.dx + (first + place.row) * call.columns + column;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int left = first + place.row + half * 8 < call.tokens ? call.columns - column : 0;
#pragma unroll
    for (int block = 0; block < 16; block += 4) {
      const Eight value = eight_of<__nv_bfloat16>(sums, block, half, place.quad);
      if (block * 8 < left) store_eight(row + block * 8, value);
    }
    row += 8 * call.columns;
  }
}

/// The warpgroups of a block multiply in turn, so that the others load, split and store meanwhile;
/// left alone they would all multiply at once and then all store.
struct Turn {
  int warpgroup;
  __device__ void begin() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(2 * kWarpgroup) : "memory");
  }
  __device__ void end() const {
    const int next = (warpgroup + 1) % kSlabWarpgroups;
    asm volatile("bar.arrive %0, %1;" ::"r"(1 + next), "n"(2 * kWarpgroup) : "memory");
  }
};

__global__ void __launch_bounds__(kSlabThreads, 1)
    input_gradient_kernel(const InputGradientCall call) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  const unsigned gap = (kSwizzleBytes - shared_address(raw) % kSwizzleBytes) % kSwizzleBytes;
  const Slab slab{raw + gap, (call.experts + kSlabExperts - 1) / kSlabExperts};
  const int column0 = static_cast<int>(blockIdx.x) * kSlabColumns;
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  const SumPlace place{0, static_cast<int>(threadIdx.x) % kWarpgroup};
  const std::int64_t block_first = std::int64_t{blockIdx.y} * kSlabWarpgroups * kSlabTokens;
  const std::int64_t stride = std::int64_t{gridDim.y} * kSlabWarpgroups * kSlabTokens;
  std::int64_t first = block_first + warpgroup * kSlabTokens;
  Vec<float, 2> pairs[16];
  load_gradients(pairs, call, first + place.row, 0);
  slab.fill(call, column0);
  __syncthreads();
  const Turn turn{warpgroup};
  if (warpgroup == kSlabWarpgroups - 1) turn.end();
  // All warpgroups walk alike; beyond the tokens nothing is read or stored.
  for (std::int64_t at = block_first; at < call.tokens; at += stride, first += stride) {
    float sums[64] = {};
    for (int chunk = 0; chunk < slab.chunks; ++chunk) {
      RowsOperand terms[4][kSlabTerms];
#pragma unroll
      for (int i = 0; i < 16; ++i) split_into(terms[i / 4], i % 4, pairs[i].v[0], pairs[i].v[1]);
      turn.begin();
      multiply_chunk(sums, terms, slab, chunk);
      const bool last = chunk + 1 == slab.chunks;
      load_gradients(pairs, call, (last ? first + stride : first) + place.row,
                     last ? 0 : (chunk + 1) * kSlabExperts);
      wait_products<0>();
      turn.end();
    }
    store_rows(sums, call, first, column0, place);
  }
  if (warpgroup == 0) turn.begin();  // takes the last arrival
#else
  __trap();  // the launcher chooses this kernel on compute capability 9.0 only
#endif
}

}  // namespace shoal::ops::cuda::hopper
