#include <cfloat>
#include <climits>

#include "ops/cuda_common.cuh"
#include "ops/router_detail.hpp"

// One warp per token; lane l holds experts l, l + 32, ... in registers (N of them).
namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

template <int N>
__device__ void load_row(float (&out)[N], const float* row_E, int E, float beyond) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int e = lane + i * kWarpSize;
    out[i] = e < E ? row_E[e] : beyond;
  }
}
template <int N>
__device__ void store_row(float* row_E, const float (&x)[N], int E) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int e = lane + i * kWarpSize;
    if (e < E) row_E[e] = x[i];
  }
}
template <int N>
__device__ float row_sum(const float (&x)[N]) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += x[i];
  return warp_sum(sum);
}
template <int N>
__device__ float row_max(const float (&x)[N]) {
  float top = x[0];
#pragma unroll
  for (int i = 1; i < N; ++i) top = fmaxf(top, x[i]);
  return warp_max(top);
}
template <int N>
__device__ float logsumexp(const float (&logit)[N]) {
  const float top = row_max(logit);
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += expf(logit[i] - top);
  return top + logf(warp_sum(sum));
}

/// Logits to scores; entries beyond E hold -inf and become 0.
template <int N>
__device__ void score_row(float (&x)[N], bool softmax) {
  if (softmax) {
    const float top = row_max(x);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = expf(x[i] - top);
    const float sum = row_sum(x);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] /= sum;
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = 1.0F / (1.0F + expf(-x[i]));
  }
}

struct Candidate {
  float key;
  int expert;
  __device__ bool before(const Candidate& o) const {
    return key > o.key || (key == o.key && expert < o.expert);
  }
};

/// The first candidate after `last` in the order (key descending, expert ascending), on every lane.
template <int N>
__device__ Candidate next_best(const float (&key)[N], const Candidate& last) {
  const int lane = threadIdx.x % kWarpSize;
  Candidate best{-INFINITY, INT_MAX};
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const Candidate c{key[i], lane + i * kWarpSize};
    if (last.before(c) && c.before(best)) best = c;
  }
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const Candidate other{__shfl_xor_sync(kFullWarp, best.key, offset),
                          __shfl_xor_sync(kFullWarp, best.expert, offset)};
    if (other.before(best)) best = other;
  }
  return best;
}

/// Value of one expert, from the lane that holds it to all.
template <int N>
__device__ float value_of(const float (&x)[N], int expert) {
  float value = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) value = expert / kWarpSize == i ? x[i] : value;
  return __shfl_sync(kFullWarp, value, expert % kWarpSize);
}

struct ForwardArgs {
  std::int32_t* index_TK;
  float* weight_TK;
  float* score_TE;
  const float* logits_TE;
  const float* bias_E;
  std::int64_t T;
  int E, K;
  bool softmax, normalise;
  float scaling;
};

template <int N>
__global__ void __launch_bounds__(kThreads) forward_kernel(ForwardArgs a) {
  const std::int64_t t = thread_index() / kWarpSize;
  if (t >= a.T) return;  // the same for the whole warp
  const int lane = threadIdx.x % kWarpSize;
  float score[N], key[N];
  load_row(score, a.logits_TE + t * a.E, a.E, -INFINITY);
  score_row(score, a.softmax);
  store_row(a.score_TE + t * a.E, score, a.E);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int e = lane + i * kWarpSize;
    const float biased = score[i] + (a.bias_E != nullptr && e < a.E ? a.bias_E[e] : 0.0F);
    key[i] = e < a.E && !isnan(biased) ? biased : -INFINITY;  // NaN ranks last
  }
  Candidate chosen{INFINITY, -1};
  float sum = 0.0F;
  for (int k = 0; k < a.K; ++k) {
    chosen = next_best(key, chosen);
    const float value = value_of(score, chosen.expert);
    sum += value;
    if (lane == k % kWarpSize) {
      a.index_TK[t * a.K + k] = chosen.expert;
      a.weight_TK[t * a.K + k] = value;
    }
  }
  sum = a.normalise ? sum + kTinyScore : 1.0F;
  for (int k = lane; k < a.K; k += kWarpSize) {  // each lane reads what it wrote itself
    float& weight = a.weight_TK[t * a.K + k];
    weight = a.scaling * (weight / sum);
  }
}

struct BackwardArgs {
  float* dlogits_TE;
  const float* dweight_TK;
  const std::int32_t* index_TK;
  const float* weight_TK;
  const float* score_TE;
  const float* logits_TE;
  const std::int32_t* count_SE;
  const float* aux_scale;
  const float* z_scale;
  std::int64_t T, tokens;     ///< tokens of a group, or of a fragment of it
  std::int64_t group_tokens;  ///< of a whole group
  int E, K;
  bool softmax, normalise;
  float scaling;
};

/// Adds the balance gradient to the gradient of the scores; sigmoid scores are normalised first.
template <int N>
__device__ void add_balance(float (&d)[N], const float (&score)[N], const BackwardArgs& a,
                            std::int64_t t) {
  const int lane = threadIdx.x % kWarpSize;
  const float group = static_cast<float>(a.group_tokens);
  const float scale =
      a.aux_scale[0] * static_cast<float>(a.E) / (static_cast<float>(a.K) * group * group);
  const float factor = a.softmax ? 1.0F : 1.0F / (row_sum(score) + kTinyScore);
  float mean = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int e = lane + i * kWarpSize;
    d[i] = e < a.E ? scale * static_cast<float>(a.count_SE[t / a.tokens * a.E + e]) : 0.0F;
    mean += d[i] * score[i] * factor;
  }
  mean = a.softmax ? 0.0F : warp_sum(mean);
#pragma unroll
  for (int i = 0; i < N; ++i) d[i] = (d[i] - mean) * factor;
}

/// Adds the gradient of the chosen weights to the gradient of the scores.
template <int N>
__device__ void add_chosen(float (&d)[N], const BackwardArgs& a, std::int64_t t) {
  const int lane = threadIdx.x % kWarpSize;
  const std::int32_t* index_K = a.index_TK + t * a.K;
  float dot = 0.0F, sum = 0.0F;
  for (int k = 0; k < a.K; ++k) {
    dot += a.dweight_TK[t * a.K + k] * a.weight_TK[t * a.K + k];
    sum += a.score_TE[t * a.E + index_K[k]];
  }
  dot = a.normalise ? dot : 0.0F;
  sum = a.normalise ? sum + kTinyScore : 1.0F;
  for (int k = 0; k < a.K; ++k) {
    const float value = (a.scaling * a.dweight_TK[t * a.K + k] - dot) / sum;
#pragma unroll
    for (int i = 0; i < N; ++i) d[i] += lane + i * kWarpSize == index_K[k] ? value : 0.0F;
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads) backward_kernel(BackwardArgs a) {
  const std::int64_t t = thread_index() / kWarpSize;
  if (t >= a.T) return;  // the same for the whole warp
  float score[N], d[N] = {};
  load_row(score, a.score_TE + t * a.E, a.E, 0.0F);
  if (a.aux_scale != nullptr) add_balance(d, score, a, t);
  add_chosen(d, a, t);
  float dot = 0.0F;
#pragma unroll
  for (int i = 0; i < N; ++i) dot += score[i] * d[i];
  dot = warp_sum(dot);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    d[i] = a.softmax ? score[i] * (d[i] - dot) : d[i] * (score[i] * (1.0F - score[i]));
  }
  if (a.z_scale != nullptr) {
    load_row(score, a.logits_TE + t * a.E, a.E, -INFINITY);
    const float lse = logsumexp(score);
#pragma unroll
    for (int i = 0; i < N; ++i) d[i] += 2.0F * a.z_scale[0] * lse * expf(score[i] - lse);
  }
  store_row(a.dlogits_TE + t * a.E, d, a.E);
}

/// One warp: counts are whole numbers, so their sum is exact in double in any order.
__global__ void bias_kernel(float* bias_E, const float* count_E, const std::int32_t* skip, int E,
                            float rate) {
  if (skip != nullptr && skip[0] != 0) return;
  double sum = 0.0;
  for (int e = threadIdx.x; e < E; e += kWarpSize) sum += count_E[e];
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(kFullWarp, sum, offset);
  }
  const double mean = sum / E;
  for (int e = threadIdx.x; e < E; e += kWarpSize) {
    const double gap = mean - count_E[e];
    bias_E[e] += rate * (gap > 0.0 ? 1.0F : gap < 0.0 ? -1.0F : 0.0F);
  }
}

/// Calls `body` with how many experts a lane holds, as a compile-time constant.
template <class Body>
void with_experts_per_lane(std::int64_t E, Body&& body) {
  if (E <= 32) return body(std::integral_constant<int, 1>{});
  if (E <= 64) return body(std::integral_constant<int, 2>{});
  if (E <= 128) return body(std::integral_constant<int, 4>{});
  if (E <= 256) return body(std::integral_constant<int, 8>{});
  body(std::integral_constant<int, 16>{});
}

}  // namespace

void router_forward(const Exec& exec, const RouterForward& a) {
  const ForwardArgs args{.index_TK = device_data<std::int32_t>(a.index_TK),
                         .weight_TK = device_data<float>(a.weight_TK),
                         .score_TE = device_data<float>(a.score_TE),
                         .logits_TE = device_data<float>(a.logits_TE),
                         .bias_E = device_data<float>(a.bias_E),
                         .T = a.logits_TE.dim(0),
                         .E = static_cast<int>(a.logits_TE.dim(1)),
                         .K = static_cast<int>(a.index_TK.dim(1)),
                         .softmax = a.score == RouterScore::softmax,
                         .normalise = a.normalise,
                         .scaling = a.scaling};
  with_experts_per_lane(args.E, [&](auto n) {
    forward_kernel<n.value><<<blocks_for(args.T, kWarps), kThreads, 0, exec.cuda().stream>>>(args);
  });
  check_launch();
}

void router_backward(const Exec& exec, const RouterBackward& a) {
  const std::int64_t T = a.score_TE.dim(0);
  const std::int64_t tokens = a.aux_scale.absent() ? T : T / a.count_SE.dim(0);
  const BackwardArgs args{.dlogits_TE = device_data<float>(a.dlogits_TE),
                          .dweight_TK = device_data<float>(a.dweight_TK),
                          .index_TK = device_data<std::int32_t>(a.index_TK),
                          .weight_TK = device_data<float>(a.weight_TK),
                          .score_TE = device_data<float>(a.score_TE),
                          .logits_TE = device_data<float>(a.logits_TE),
                          .count_SE = device_data<std::int32_t>(a.count_SE),
                          .aux_scale = device_data<float>(a.aux_scale),
                          .z_scale = device_data<float>(a.z_scale),
                          .T = T,
                          .tokens = tokens,
                          .group_tokens = a.group_tokens > 0 ? a.group_tokens : tokens,
                          .E = static_cast<int>(a.score_TE.dim(1)),
                          .K = static_cast<int>(a.index_TK.dim(1)),
                          .softmax = a.score == RouterScore::softmax,
                          .normalise = a.normalise,
                          .scaling = a.scaling};
  with_experts_per_lane(args.E, [&](auto n) {
    backward_kernel<n.value><<<blocks_for(T, kWarps), kThreads, 0, exec.cuda().stream>>>(args);
  });
  check_launch();
}

void router_bias_update(const Exec& exec, const RouterBiasUpdate& a) {
  bias_kernel<<<1, kWarpSize, 0, exec.cuda().stream>>>(
      device_data<float>(a.bias_E), device_data<float>(a.count_E),
      device_data<std::int32_t>(a.skip), static_cast<int>(a.bias_E.dim(0)), a.rate);
  check_launch();
}

}  // namespace shoal::ops::cuda
