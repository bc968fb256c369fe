// Forward attention for bf16 and f16 on tensor cores, after FlashAttention-2 (Dao 2023,
// arXiv:2307.08691): a block holds 64 queries of one head and walks the keys that its first query's
// document allows, 64 at a time, with an online softmax in base 2.
#include "ops/attention_mma.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kQueries = 64;  // 16 for each warp
constexpr int kKeys = 64;

/// The two rows of sums that a lane shares: queries g and g + 8 of its warp.
struct SoftmaxRows {
  float maximum[2], total[2];  // of the scaled scores in base 2; the total is this lane's share
  int first_key[2], last_key[2];
};

template <class Elem>
__device__ SoftmaxRows start_rows(const ForwardCall<Elem>& call, int t) {
  SoftmaxRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int mine = t + half * 8;
    rows.maximum[half] = -INFINITY;
    rows.total[half] = 0.0F;
    rows.first_key[half] = mine < call.rules.tokens ? call.rules.doc_start[mine] : 0;
    rows.last_key[half] = mine;
  }
  return rows;
}

/// Scores to probabilities against the running maximum; earlier sums shrink by the same factor.
template <int D>
__device__ void softmax(FragmentC (&score)[kKeys / 8], FragmentC (&sum)[D / 8], SoftmaxRows& rows,
                        float scale, int key0, bool masked) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = rows.maximum[half];
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        const int key = key0 + j * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
        const bool hidden = masked && (key < rows.first_key[half] || key > rows.last_key[half]);
        score[j].r[e] = hidden ? -INFINITY : score[j].r[e] * scale;
        maximum = fmaxf(maximum, score[j].r[e]);
      }
    }
    maximum = quad_max(maximum);
    const float base = maximum == -INFINITY ? 0.0F : maximum;  // no key yet: all powers are zero
    const float factor = exp2_fast(rows.maximum[half] - base);
    float total = 0.0F;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        score[j].r[e] = exp2_fast(score[j].r[e] - base);
        total += score[j].r[e];
      }
    }
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      sum[j].r[2 * half] *= factor;
      sum[j].r[2 * half + 1] *= factor;
    }
    rows.maximum[half] = maximum;
    rows.total[half] = rows.total[half] * factor + total;
  }
}

/// Divides by the totals and writes outputs and lse; inactive pairs write zeros and infinity.
template <int D, class Elem>
__device__ void finish(const ForwardCall<Elem>& call, const FragmentC (&sum)[D / 8],
                       const SoftmaxRows& rows, int head, int lane) {
  const int group = head / (call.heads / call.groups);
  const FragmentC zeros[D / 8] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = rows.last_key[half];
    const float total = quad_sum(rows.total[half]);
    if (t >= call.rules.tokens) continue;
    const bool on = call.rules.active(t, group);
    Elem* out = call.out.row(head, t);
    // A branch, not a factor of zero: sums of an inactive row may be anything.
    if (on) {
      store_row<D>(out, sum, half, 1.0F / total, call.out.head_dim, lane, call.vectors);
    } else {
      store_row<D>(out, zeros, half, 0.0F, call.out.head_dim, lane, call.vectors);
    }
    if (call.lse != nullptr && lane % 4 == 0) {
      call.lse[std::int64_t{head} * call.rules.tokens + t] =
          on ? rows.maximum[half] * kLn2 + logf(total) : INFINITY;
    }
  }
}

template <class Elem, int D>
__global__ void __launch_bounds__(kThreads) attention_forward_kernel(const ForwardCall<Elem> call) {
  extern __shared__ __align__(16) unsigned char shared[];
  const HeadTile<Elem, D> query{reinterpret_cast<Elem*>(shared)};
  const HeadTile<Elem, D> key{query.data + kQueries * kTilePitch<D>};
  const HeadTile<Elem, D> value{key.data + kKeys * kTilePitch<D>};
  const int tokens = call.rules.tokens;
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;  // longest first
  const int head = static_cast<int>(blockIdx.y), group = head / (call.heads / call.groups);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarp;
  const int end = min(t0 + kQueries, tokens);
  FragmentC sum[D / 8] = {};
  SoftmaxRows rows = start_rows(call, t0 + row + lane / 4);
  if (!call.rules.any_active(t0, end - t0, group)) return finish<D>(call, sum, rows, head, lane);

  const int begin = call.rules.doc_start[t0], last_start = call.rules.doc_start[end - 1];
  const auto load_keys = [&](int key0) {
    if (key0 < end) {
      load_tile<kKeys, kThreads>(key, call.k, group, key0, tokens, call.vectors);
    }
    commit_copies();
  };
  const auto load_values = [&](int key0) {
    if (key0 < end) {
      load_tile<kKeys, kThreads>(value, call.v, group, key0, tokens, call.vectors);
    }
    commit_copies();
  };
  load_tile<kQueries, kThreads>(query, call.q, head, t0, tokens, call.vectors);
  load_keys(begin);
  load_values(begin);
  for (int key0 = begin; key0 < end; key0 += kKeys) {
    FragmentC score[kKeys / 8];
    wait_copies<1>();
    __syncthreads();  // queries and keys are there; values may be under way
    multiply_rows<D, kKeys>(score, query, row, key, lane);
    __syncthreads();
    load_keys(key0 + kKeys);
    const bool masked = key0 < last_start || key0 + kKeys - 1 > t0;
    softmax<D>(score, sum, rows, call.scale * kLog2E, key0, masked);
    wait_copies<1>();
    __syncthreads();  // values are there; the next keys may be under way
    add_weighted<D, kKeys, D>(sum, score, value, 0, lane);
    __syncthreads();
    load_values(key0 + kKeys);
  }
  finish<D>(call, sum, rows, head, lane);
}

}  // namespace

template <class Elem>
void launch_forward_mma(const Exec& exec, const ForwardCall<Elem>& call) {
  with_head_dim(call.q.head_dim, [&](auto dim) {
    constexpr int D = decltype(dim)::value;
    constexpr std::size_t kBytes = (kQueries + 2 * kKeys) * kTilePitch<D> * sizeof(Elem);
    const auto kernel = &attention_forward_kernel<Elem, D>;
    allow_shared(kernel, kBytes);
    const dim3 grid{blocks_for(call.rules.tokens, kQueries), static_cast<unsigned>(call.heads)};
    kernel<<<grid, kThreads, kBytes, exec.cuda().stream>>>(call);
    check_launch();
  });
}
template void launch_forward_mma(const Exec&, const ForwardCall<__nv_bfloat16>&);
template void launch_forward_mma(const Exec&, const ForwardCall<__half>&);

}  // namespace shoal::ops::cuda
