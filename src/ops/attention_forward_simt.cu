#include "ops/attention_simt.cuh"

namespace shoal::ops::cuda {
namespace {

/// Online softmax of one query over the lanes' scores; returns the factor of earlier sums.
__device__ float softmax_step(float& score, float& maximum, float& total) {
  const float larger = fmaxf(maximum, warp_max(score));
  const float base = larger == -INFINITY ? 0.0F : larger;  // no key yet: all powers are zero
  const float factor = expf(maximum - base);
  score = expf(score - base);
  total = total * factor + warp_sum(score);
  maximum = larger;
  return factor;
}

template <int D>
__global__ void __launch_bounds__(kSimtThreads)
    attention_forward_simt_kernel(const ForwardCall<float> call) {
  extern __shared__ __align__(16) float shared_floats[];
  const FloatTile<D> query{shared_floats};
  const FloatTile<D> key{query.data + FloatTile<D>::kElements};
  const FloatTile<D> value{key.data + FloatTile<D>::kElements};
  const int tokens = call.rules.tokens, head = static_cast<int>(blockIdx.y);
  const int group = head / (call.heads / call.groups);
  const int t0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kSimtBlockRows;
  const int end = min(t0 + kSimtBlockRows, tokens);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(threadIdx.x) / kWarpSize * kSimtRows;
  float sum[kSimtRows][D / 32] = {}, maximum[kSimtRows], total[kSimtRows] = {};
  int start[kSimtRows];
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) {
    maximum[i] = -INFINITY;
    start[i] = call.rules.doc_start[min(t0 + first + i, tokens - 1)];
  }
  const bool active = call.rules.any_active(t0, end - t0, group);
  query.load(call.q, head, t0, tokens);
  for (int key0 = call.rules.doc_start[t0]; active && key0 < end; key0 += kSimtColumns) {
    __syncthreads();
    key.load(call.k, group, key0, tokens);
    value.load(call.v, group, key0, tokens);
    __syncthreads();
    float score[kSimtRows];
    dot_rows(score, query, first, key, lane);
#pragma unroll
    for (int i = 0; i < kSimtRows; ++i) {
      const bool visible = start[i] <= key0 + lane && key0 + lane <= t0 + first + i;
      score[i] = visible ? score[i] * call.scale : -INFINITY;
      const float factor = softmax_step(score[i], maximum[i], total[i]);
#pragma unroll
      for (int n = 0; n < D / 32; ++n) sum[i][n] *= factor;
    }
    add_rows(sum, score, value, lane);
  }
#pragma unroll
  for (int i = 0; i < kSimtRows; ++i) {
    const int t = t0 + first + i;
    if (t >= tokens) continue;
    const bool on = call.rules.active(t, group);
    store_values<D>(call.out.row(head, t), sum[i], on ? 1.0F / total[i] : 0.0F, call.out.head_dim,
                    lane);
    if (call.lse != nullptr && lane == 0) {
      call.lse[std::int64_t{head} * tokens + t] = on ? maximum[i] + logf(total[i]) : INFINITY;
    }
  }
}

}  // namespace

void launch_forward_simt(const Exec& exec, const ForwardCall<float>& call) {
  with_head_dim(call.q.head_dim, [&](auto dim) {
    constexpr int D = decltype(dim)::value;
    constexpr std::size_t kBytes = 3 * FloatTile<D>::kElements * sizeof(float);
    const auto kernel = &attention_forward_simt_kernel<D>;
    allow_shared(kernel, kBytes);
    const dim3 grid{blocks_for(call.rules.tokens, kSimtBlockRows),
                    static_cast<unsigned>(call.heads)};
    kernel<<<grid, kSimtThreads, kBytes, exec.cuda().stream>>>(call);
    check_launch();
  });
}

}  // namespace shoal::ops::cuda
