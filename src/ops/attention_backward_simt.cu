#include "ops/attention_simt.cuh"

namespace shoal::ops::cuda {
namespace {

/// Row statistics of query t of a head; beyond the last token its probabilities are zero.
struct QueryState {
  float lse, delta;
  int doc_start;
};
__device__ QueryState read_query(const BackwardCall<float>& call, int head, int t) {
  if (t >= call.rules.tokens) return {INFINITY, 0.0F, 0};
  const std::int64_t at = std::int64_t{head} * call.rules.tokens + t;
  return {call.lse[at], call.delta[at], call.rules.doc_start[t]};
}

/// Keys are rows and queries are lanes: 32 keys of one group, all query heads of the group.
template <int D>
__global__ void __launch_bounds__(kSimtThreads)
    key_gradient_simt_kernel(const BackwardCall<float> call) {
  extern __shared__ __align__(16) float shared_floats[];
  const FloatTile<D> key{shared_floats};
  const FloatTile<D> value{key.data + FloatTile<D>::kElements};
  const FloatTile<D> query{value.data + FloatTile<D>::kElements};
  const FloatTile<D> dout{query.data + FloatTile<D>::kElements};
  const int tokens = call.rules.tokens, group = static_cast<int>(blockIdx.y);
  const int key0 = static_cast<int>(blockIdx.x) * kSimtBlockRows;
  const int last_key = min(key0 + kSimtBlockRows, tokens) - 1;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kSimtRows;
  const int heads = call.heads / call.groups;
  float dkey[kSimtRows][D / 32] = {}, dvalue[kSimtRows][D / 32] = {};
  key.load(call.k, group, key0, tokens);
  value.load(call.v, group, key0, tokens);
  for (int head = group * heads; head < (group + 1) * heads; ++head) {
    for (int t0 = key0; t0 < tokens && call.rules.doc_start[t0] <= last_key; t0 += kSimtColumns) {
      if (!call.rules.any_active(t0, min(kSimtColumns, tokens - t0), group)) continue;
      __syncthreads();
      query.load(call.q, head, t0, tokens);
      dout.load(call.dout, head, t0, tokens);
      __syncthreads();
      const QueryState state = read_query(call, head, t0 + lane);
      float p[kSimtRows], ds[kSimtRows];
      dot_rows(p, key, first, query, lane);
      dot_rows(ds, value, first, dout, lane);
#pragma unroll
      for (int i = 0; i < kSimtRows; ++i) {
        const int mine = key0 + first + i;
        const bool visible = state.doc_start <= mine && mine <= t0 + lane;
        p[i] = visible ? expf(p[i] * call.scale - state.lse) : 0.0F;
        ds[i] = p[i] * (ds[i] - state.delta);
      }
      add_rows(dvalue, p, dout, lane);
      add_rows(dkey, ds, query, lane);
    }
  }
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) {
    const int t = key0 + first + i;
    if (t >= tokens) continue;
    store_values<D>(call.dk.row(group, t), dkey[i], call.scale, call.dk.head_dim, lane);
    store_values<D>(call.dv.row(group, t), dvalue[i], 1.0F, call.dv.head_dim, lane);
  }
}

/// Queries are rows and keys are lanes: 32 queries of one head.
template <int D>
__global__ void __launch_bounds__(kSimtThreads)
    query_gradient_simt_kernel(const BackwardCall<float> call) {
  extern __shared__ __align__(16) float shared_floats[];
  const FloatTile<D> query{shared_floats};
  const FloatTile<D> dout{query.data + FloatTile<D>::kElements};
  const FloatTile<D> key{dout.data + FloatTile<D>::kElements};
  const FloatTile<D> value{key.data + FloatTile<D>::kElements};
  const int tokens = call.rules.tokens, head = static_cast<int>(blockIdx.y);
  const int group = head / (call.heads / call.groups);
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kSimtBlockRows;
  const int end = min(t0 + kSimtBlockRows, tokens);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kSimtRows;
  float dquery[kSimtRows][D / 32] = {};
  QueryState state[kSimtRows];
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) state[i] = read_query(call, head, t0 + first + i);
  const bool active = call.rules.any_active(t0, end - t0, group);
  query.load(call.q, head, t0, tokens);
  dout.load(call.dout, head, t0, tokens);
  for (int key0 = call.rules.doc_start[t0]; active && key0 < end; key0 += kSimtColumns) {
    __syncthreads();
    key.load(call.k, group, key0, tokens);
    value.load(call.v, group, key0, tokens);
    __syncthreads();
    float p[kSimtRows], ds[kSimtRows];
    dot_rows(p, query, first, key, lane);
    dot_rows(ds, dout, first, value, lane);
#pragma unroll
    for (int i = 0; i < kSimtRows; ++i) {
      const bool visible = state[i].doc_start <= key0 + lane && key0 + lane <= t0 + first + i;
      p[i] = visible ? expf(p[i] * call.scale - state[i].lse) : 0.0F;
      ds[i] = p[i] * (ds[i] - state[i].delta);
    }
    add_rows(dquery, ds, key, lane);
  }
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) {
    const int t = t0 + first + i;
    if (t >= tokens) continue;
    store_values<D>(call.dq.row(head, t), dquery[i], call.scale, call.dq.head_dim, lane);
  }
}

}  // namespace

void launch_backward_simt(const Exec& exec, const BackwardCall<float>& call) {
  with_head_dim(call.q.head_dim, [&](auto dim) {
    constexpr int D = decltype(dim)::value;
    constexpr std::size_t kBytes = 4 * FloatTile<D>::kElements * sizeof(float);
    const unsigned tiles = blocks_for(call.rules.tokens, kSimtBlockRows);
    const auto keys = &key_gradient_simt_kernel<D>;
    allow_shared(keys, kBytes);
    keys<<<dim3{tiles, static_cast<unsigned>(call.groups)}, kSimtThreads, kBytes,
           exec.cuda().stream>>>(call);
    check_launch();
    const auto queries = &query_gradient_simt_kernel<D>;
    allow_shared(queries, kBytes);
    queries<<<dim3{tiles, static_cast<unsigned>(call.heads)}, kSimtThreads, kBytes,
              exec.cuda().stream>>>(call);
    check_launch();
  });
}

}  // namespace shoal::ops::cuda
