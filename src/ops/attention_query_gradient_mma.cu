// Gradient of queries for bf16 and f16: a block holds 64 queries of one head and walks the keys
// they may see, as the forward pass does, with probabilities recomputed from the saved lse.
#include "ops/attention_mma.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kQueries = 64;

template <class Elem, int D>
struct Sizes {
  static constexpr int kKeys = D > 128 ? 32 : 64;
  static constexpr int kQueryElements = kQueries * kTilePitch<D>;
  static constexpr int kKeyElements = kKeys * kTilePitch<D>;
  static constexpr std::size_t kBytes = (2 * kQueryElements + 4 * kKeyElements) * sizeof(Elem);
};

/// The two queries of a lane: g and g + 8 of its warp.
struct QueryRows {
  float lse[2], delta[2];  // lse in base 2
  int first_key[2], last_key[2];
};

template <class Elem>
__device__ QueryRows read_rows(const BackwardCall<Elem>& call, int head, int t) {
  QueryRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int mine = t + half * 8;
    const bool valid = mine < call.rules.tokens;
    const std::int64_t at = std::int64_t{head} * call.rules.tokens + mine;
    rows.lse[half] = valid ? call.lse[at] * kLog2E : INFINITY;
    rows.delta[half] = valid ? call.delta[at] : 0.0F;
    rows.first_key[half] = valid ? call.rules.doc_start[mine] : 0;
    rows.last_key[half] = mine;
  }
  return rows;
}

/// dP becomes dS / scale, from scores and row statistics.
template <int kKeys>
__device__ void differentiate(FragmentC (&ds)[kKeys / 8], const FragmentC (&score)[kKeys / 8],
                              const QueryRows& rows, float scale, int key0) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int half = e / 2;
      const int key = key0 + j * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
      const bool visible = rows.first_key[half] <= key && key <= rows.last_key[half];
      const float power = exp2_fast(score[j].r[e] * scale * kLog2E - rows.lse[half]);
      ds[j].r[e] = visible ? power * (ds[j].r[e] - rows.delta[half]) : 0.0F;
    }
  }
}

template <class Elem, int D>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(const BackwardCall<Elem> call) {
  using S = Sizes<Elem, D>;
  extern __shared__ __align__(16) unsigned char shared[];
  const HeadTile<Elem, D> query{reinterpret_cast<Elem*>(shared)};
  const HeadTile<Elem, D> dout{query.data + S::kQueryElements};
  const auto key_tile = [&](int stage) {
    return HeadTile<Elem, D>{dout.data + S::kQueryElements + stage * 2 * S::kKeyElements};
  };
  const auto value_tile = [&](int stage) {
    return HeadTile<Elem, D>{key_tile(stage).data + S::kKeyElements};
  };
  const int tokens = call.rules.tokens;
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;  // longest first
  const int head = static_cast<int>(blockIdx.y), group = head / (call.heads / call.groups);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int row = static_cast<int>(threadIdx.x) / kWarpSize * kRowsPerWarp;
  const int end = min(t0 + kQueries, tokens);
  const bool active = call.rules.any_active(t0, end - t0, group);
  const auto load_keys = [&](int stage, int key0) {
    if (key0 < end) {
      load_tile<S::kKeys, kThreads>(key_tile(stage), call.k, group, key0, tokens, call.vectors);
      load_tile<S::kKeys, kThreads>(value_tile(stage), call.v, group, key0, tokens, call.vectors);
    }
    commit_copies();
  };
  FragmentC dquery[D / 8] = {};
  const QueryRows rows = read_rows(call, head, t0 + row + lane / 4);
  const int begin = active ? call.rules.doc_start[t0] : end;
  if (active) {
    load_tile<kQueries, kThreads>(query, call.q, head, t0, tokens, call.vectors);
    load_tile<kQueries, kThreads>(dout, call.dout, head, t0, tokens, call.vectors);
  }
  load_keys(0, begin);
  for (int key0 = begin, stage = 0; key0 < end; key0 += S::kKeys, stage ^= 1) {
    load_keys(stage ^ 1, key0 + S::kKeys);
    wait_copies<1>();
    __syncthreads();  // this stage is there
    FragmentC score[S::kKeys / 8], ds[S::kKeys / 8];
    multiply_rows<D, S::kKeys>(score, query, row, key_tile(stage), lane);
    multiply_rows<D, S::kKeys>(ds, dout, row, value_tile(stage), lane);
    differentiate<S::kKeys>(ds, score, rows, call.scale, key0);
    add_weighted<D, S::kKeys, D>(dquery, ds, key_tile(stage), 0, lane);
    __syncthreads();  // and free again
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = rows.last_key[half];
    if (t >= tokens) continue;
    store_row<D>(call.dq.row(head, t), dquery, half, call.scale, call.dq.head_dim, lane,
                 call.vectors);
  }
}

}  // namespace

template <class Elem>
void launch_query_gradient_mma(const Exec& exec, const BackwardCall<Elem>& call) {
  with_head_dim(call.q.head_dim, [&](auto dim) {
    using S = Sizes<Elem, decltype(dim)::value>;
    const auto kernel = &query_gradient_kernel<Elem, decltype(dim)::value>;
    allow_shared(kernel, S::kBytes);
    const dim3 grid{blocks_for(call.rules.tokens, kQueries), static_cast<unsigned>(call.heads)};
    kernel<<<grid, kThreads, S::kBytes, exec.cuda().stream>>>(call);
    check_launch();
  });
}
template void launch_query_gradient_mma(const Exec&, const BackwardCall<__nv_bfloat16>&);
template void launch_query_gradient_mma(const Exec&, const BackwardCall<__half>&);

}  // namespace shoal::ops::cuda
