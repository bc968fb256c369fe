// Attention of new tokens over a cache: one block for each (token, head). Its warps deal the keys
// among themselves in blocks of 32, each with an online softmax of its own, and merge at the end in
// a fixed order.
#include "ops/attention.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kPerLane = kMaxHeadDim / kWarpSize;

template <class Elem>
struct CachedCall {
  Elem* out;
  HeadData<const Elem> q;
  const Elem *k, *v;                  // of position 0
  const std::int32_t* active_groups;  // or null
  std::int64_t first;
  int heads, groups;
  float scale;
};

/// A softmax so far: lane l keeps values l, l + 32, ... of the weighted sum of rows of v.
struct Partial {
  float maximum = -INFINITY, total = 0.0F;
  float sum[kPerLane] = {};
};

/// Adds 32 keys, one a lane; lanes at or beyond `count` have none.
template <class Elem>
__device__ void add_keys(Partial& part, const float* query, const Elem* k, const Elem* v,
                         std::int64_t stride, int head_dim, int count, float scale) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float score = 0.0F;
  for (int i = 0; i < head_dim && lane < count; ++i) {
    score = fmaf(query[i], to_float(k[lane * stride + i]), score);
  }
  score = lane < count ? score * scale : -INFINITY;
  const float maximum = fmaxf(part.maximum, warp_max(score));  // finite: count is at least one
  const float factor = expf(part.maximum - maximum);
  const float p = expf(score - maximum);
  part.total = part.total * factor + warp_sum(p);
  part.maximum = maximum;
#pragma unroll
  for (int n = 0; n < kPerLane; ++n) part.sum[n] *= factor;
  for (int j = 0; j < count; ++j) {
    const float weight = __shfl_sync(kFullWarp, p, j);
#pragma unroll
    for (int n = 0; n < kPerLane; ++n) {
      const int i = n * kWarpSize + lane;
      if (i < head_dim) part.sum[n] = fmaf(weight, to_float(v[j * stride + i]), part.sum[n]);
    }
  }
}

/// Merges the warps' partial softmaxes; warp 0 writes the output row.
template <class Elem>
__device__ void merge(Elem* out, const Partial& part, int head_dim) {
  __shared__ float maxima[kWarps], totals[kWarps], sums[kWarps][kMaxHeadDim];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  maxima[warp] = part.maximum;
  totals[warp] = part.total;
#pragma unroll
  for (int n = 0; n < kPerLane; ++n) sums[warp][n * kWarpSize + lane] = part.sum[n];
  __syncthreads();
  if (warp != 0) return;
  float maximum = maxima[0], total = 0.0F;  // warp 0 has the first key: finite
  for (int w = 1; w < kWarps; ++w) maximum = fmaxf(maximum, maxima[w]);
  for (int w = 0; w < kWarps; ++w) total += totals[w] * expf(maxima[w] - maximum);
  for (int i = lane; i < head_dim; i += kWarpSize) {
    float sum = 0.0F;
    for (int w = 0; w < kWarps; ++w) sum += sums[w][i] * expf(maxima[w] - maximum);
    out[i] = from_float<Elem>(sum / total);
  }
}

template <class Elem>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    attention_cached_kernel(const CachedCall<Elem> call) {
  __shared__ float query[kMaxHeadDim];
  const std::int64_t t = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y), group = head / (call.heads / call.groups);
  const int d = call.q.head_dim, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const auto thread = static_cast<int>(threadIdx.x);
  Elem* out = call.out + (t * call.heads + head) * d;
  if (call.active_groups != nullptr && group >= call.active_groups[t]) {
    for (int i = thread; i < d; i += kWarps * kWarpSize) out[i] = from_float<Elem>(0.0F);
    return;
  }
  for (int i = thread; i < d; i += kWarps * kWarpSize) query[i] = to_float(call.q.row(head, t)[i]);
  __syncthreads();
  const std::int64_t stride = std::int64_t{call.groups} * d, end = call.first + t + 1;
  Partial part;
  for (std::int64_t key0 = std::int64_t{warp} * kWarpSize; key0 < end; key0 += kWarps * kWarpSize) {
    const std::int64_t at = key0 * stride + std::int64_t{group} * d;
    const auto count = static_cast<int>(min(end - key0, std::int64_t{kWarpSize}));
    add_keys(part, query, call.k + at, call.v + at, stride, d, count, call.scale);
  }
  merge(out, part, d);
}

}  // namespace

void attention_cached(const Exec& exec, const AttentionCached& a) {
  require(a.q.head_dim <= kMaxHeadDim, "attention on CUDA: head_dim is at most 256");
  with_device_elem(a.q.rows.dtype(), [&](auto elem) {
    using Elem = decltype(elem);
    const CachedCall<Elem> call{.out = device_data<Elem>(a.out_TC),
                                .q = head_data<Elem>(a.q),
                                .k = device_data<Elem>(a.k_PGd),
                                .v = device_data<Elem>(a.v_PGd),
                                .active_groups = device_data<std::int32_t>(a.active_groups_T),
                                .first = a.first,
                                .heads = static_cast<int>(a.q.heads),
                                .groups = static_cast<int>(a.k_PGd.dim(1)),
                                .scale = a.scale};
    const dim3 grid{static_cast<unsigned>(a.q.rows.dim(0)), static_cast<unsigned>(a.q.heads)};
    attention_cached_kernel<<<grid, kWarps * kWarpSize, 0, exec.cuda().stream>>>(call);
    check_launch();
  });
}

}  // namespace shoal::ops::cuda
