#pragma once
// What a consumer warpgroup of backward attention does with scores and sums in its registers.
#include "ops/hopper/attention_backward_products.cuh"

namespace shoal::ops::cuda::hopper {

/// The thread's index, read anew: values that follow from it are cheaper to compute again than to
/// keep in registers over a loop.
[[nodiscard]] __device__ inline int read_thread_index() {
  int index = 0;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

/// Where a consumer thread stands: its keys are `row` and `row` + 8 of the block's.
template <class P>
struct ConsumerPlace {
  int warpgroup, thread, quad, row;

  __device__ explicit ConsumerPlace(int own_warpgroup)
      : warpgroup{own_warpgroup},
        thread{read_thread_index() % kWarpgroup},
        quad{thread % 4},
        row{warpgroup * 64 + thread / kWarpSize * 16 + thread % kWarpSize / 4} {}
};

/// Calls body(block of sums, value pair of the block's two queries) for values by query.
template <int kQueries, class T, class Body>
__device__ inline void for_query_pairs(const T* values, int quad, const Body& body) {
#pragma unroll
  for (int j = 0; j < kQueries / 8; ++j) body(j, load_vec<2>(values + j * 8 + quad * 2));
}

/// Transposed scores to probabilities: 2^(score * factor - lse).
template <class P>
__device__ inline void to_probabilities(float (&s)[P::kQueries / 2], const float* lse, float factor,
                                        int quad) {
  for_query_pairs<P::kQueries>(lse, quad, [&](int j, const Vec<float, 2>& pair) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[4 * j + e] = exp2_fast(s[4 * j + e] * factor - pair.v[e % 2]);
    }
  });
}

/// Zeros the probabilities of keys that a query does not see; `key` is the thread's first.
template <class P>
__device__ inline void hide(float (&p)[P::kQueries / 2], const int* first_keys, int first_token,
                            int key, int quad) {
  for_query_pairs<P::kQueries>(first_keys, quad, [&](int j, const Vec<int, 2>& first) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int mine = key + e / 2 * 8, query = first_token + j * 8 + quad * 2 + e % 2;
      if (mine > query || mine < first.v[e % 2]) p[4 * j + e] = 0.0F;
    }
  });
}

/// Two values of a register of an operand.
template <class Elem>
__device__ inline Vec<float, 2> unpack_pair(unsigned pair) {
  return load_floats<2>(reinterpret_cast<const Elem*>(&pair));
}

/// Transposed dP to dS / scale, with the rounded probabilities that dV takes.
template <class P>
__device__ inline void differentiate(float (&dp)[P::kQueries / 2],
                                     const RowsOperand (&p)[P::kQueries / kProductInner],
                                     const float* delta, int quad) {
  for_query_pairs<P::kQueries>(delta, quad, [&](int j, const Vec<float, 2>& pair) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto weight = unpack_pair<typename P::Elem>(p[j / 2][j % 2 * 2 + half]);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = dp[4 * j + 2 * half + e];
        x = weight.v[e] * (x - pair.v[e]);
      }
    }
  });
}

/// Four 8 x 8 matrices to shared memory; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void store_matrices(unsigned address, const RowsOperand& r) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

/// dS of the thread's keys into the tile that all consumers read.
template <class P>
__device__ inline void share_ds(unsigned tile, const RowsOperand (&ds)[P::kQueries / kProductInner],
                                const ConsumerPlace<P>& place) {
  const int lane = place.thread % kWarpSize, matrix = lane / 8;
  const int row = place.warpgroup * 64 + place.thread / kWarpSize * 16 + lane % 8 + matrix % 2 * 8;
  const unsigned own = tile + static_cast<unsigned>(row * 128 + ((matrix / 2) ^ (lane % 8)) * 16);
#pragma unroll
  for (int i = 0; i < P::kQueries / kProductInner; ++i) {
    const auto box = static_cast<unsigned>(i / 4), units = static_cast<unsigned>(i % 4 * 2);
    store_matrices((own ^ (units * 16)) + box * P::kKeyBoxBytes, ds[i]);
  }
}

/// All consumers, and only they.
template <class P>
__device__ inline void meet_consumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(P::kConsumers * kWarpgroup) : "memory");
}

/// Sums in the order of threads: four neighbouring ones of each in turn; `places` is the thread's
/// first.
template <int kSums>
__device__ inline void put_sums(float* places, const float (&sums)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; i += 4) {
    store_vec(places + i * kWarpgroup,
              Vec<float, 4>{{sums[i], sums[i + 1], sums[i + 2], sums[i + 3]}});
  }
}
/// Adds sums that another block put into global memory.
template <int kSums>
__device__ inline void add_sums(float (&sums)[kSums], const float* places) {
#pragma unroll
  for (int i = 0; i < kSums; i += 4) {
    const float4 other = __ldcg(reinterpret_cast<const float4*>(places + i * kWarpgroup));
    sums[i] += other.x;
    sums[i + 1] += other.y;
    sums[i + 2] += other.z;
    sums[i + 3] += other.w;
  }
}

/// Rows of dq from its complete sums.
template <class P>
__device__ inline void store_dq(float (&dq)[P::kDqSums], const BackwardArgs<P>& args,
                                const BackwardStep& step, const ConsumerPlace<P>& place) {
  using Elem = typename P::Elem;
#pragma unroll
  for (float& x : dq) x *= args.call.scale;
  const int first_token = step.first_token + P::dq_query(place.warpgroup);
  for_each_eight<P::kDqSums / 4>(
      SumPlace{0, place.thread}, [&](int row, int column, int block, int half) {
        const Eight value = eight_of<Elem>(dq, block, half, place.quad);
        if (first_token + row >= args.call.rules.tokens) return;
        store_eight(
            args.call.dq.row(step.head, first_token + row) + P::dq_column(place.warpgroup) + column,
            value);
      });
}

/// Rows of dk or dv from `first` on, times `factor`.
template <class P>
__device__ inline void store_key_rows(typename P::Elem* first, std::int64_t stride,
                                      float (&sums)[P::kHeadDim / 2], float factor, int rows_left,
                                      const ConsumerPlace<P>& place) {
  using Elem = typename P::Elem;
#pragma unroll
  for (float& x : sums) x *= factor;
  for_each_eight<P::kHeadDim / 8>(
      SumPlace{place.warpgroup, place.thread}, [&](int row, int column, int block, int half) {
        const Eight value = eight_of<Elem>(sums, block, half, place.quad);
        if (row < rows_left) store_eight(first + row * stride + column, value);
      });
}

}  // namespace shoal::ops::cuda::hopper
