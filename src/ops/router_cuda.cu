#include "ops/router_detail.hpp"
#include "ops/router_lanes.cuh"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 256;

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
template <class L>
__device__ void add_balance(typename L::Row& d, const typename L::Row& score, const BackwardArgs& a,
                            std::int64_t t) {
  const float group = static_cast<float>(a.group_tokens);
  const float scale =
      a.aux_scale[0] * static_cast<float>(a.E) / (static_cast<float>(a.K) * group * group);
  const float factor = a.softmax ? 1.0F : 1.0F / (L::row_sum(score) + kTinyScore);
  const std::int32_t* count_E = a.count_SE + t / a.tokens * a.E;
  float mean = 0.0F;
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) {
    const int e = L::expert(i);
    d[i] = e < a.E ? scale * static_cast<float>(count_E[e]) : 0.0F;
    mean += d[i] * score[i] * factor;
  }
  mean = a.softmax ? 0.0F : L::all_sum(mean);
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) d[i] = (d[i] - mean) * factor;
}

/// Adds the gradient of the chosen weights to the gradient of the scores.
template <class L>
__device__ void add_chosen(typename L::Row& d, const BackwardArgs& a, std::int64_t t) {
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
    const int expert = index_K[k];
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) d[i] += L::expert(i) == expert ? value : 0.0F;
  }
}

/// A token on each group of lanes.
template <class L>
__global__ void __launch_bounds__(kThreads) backward_kernel(BackwardArgs a) {
  const std::int64_t at = thread_index() / L::kLanes;
  const bool real = at < a.T;  // the other lanes take part in exchanges
  const std::int64_t t = real ? at : 0;
  typename L::Row score, d = {};
  L::load(score, a.score_TE + t * a.E, a.E, 0.0F);
  if (a.aux_scale != nullptr) add_balance<L>(d, score, a, t);
  add_chosen<L>(d, a, t);
  float dot = 0.0F;
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) dot += score[i] * d[i];
  dot = L::all_sum(dot);
#pragma unroll
  for (int i = 0; i < L::kEach; ++i) {
    d[i] = a.softmax ? score[i] * (d[i] - dot) : d[i] * (score[i] * (1.0F - score[i]));
  }
  if (a.z_scale != nullptr) {
    L::load(score, a.logits_TE + t * a.E, a.E, -INFINITY);
    const float lse = L::logsumexp(score);
#pragma unroll
    for (int i = 0; i < L::kEach; ++i) d[i] += 2.0F * a.z_scale[0] * lse * expf(score[i] - lse);
  }
  if (real) L::store(a.dlogits_TE + t * a.E, d, a.E);
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

}  // namespace

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
  with_lanes(args.E, [&](auto lanes) {
    using L = decltype(lanes);
    backward_kernel<L>
        <<<blocks_for(T * L::kLanes, kThreads), kThreads, 0, exec.cuda().stream>>>(args);
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
