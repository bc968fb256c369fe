#include "ops/cuda_common.cuh"
#include "ops/router_detail.hpp"
#include "shoal/ops/router_weights.hpp"

namespace shoal::ops::cuda {
namespace {

constexpr int kThreads = 128;

/// One thread a token.
__global__ void __launch_bounds__(kThreads)
    router_weights_kernel(float* weight_TK, const float* score_TE, const std::int32_t* index_TK,
                          std::int64_t T, int K, int E, float scaling, bool normalise) {
  const std::int64_t t = thread_index();
  if (t >= T) return;
  const float* score_E = score_TE + t * E;
  const std::int32_t* index_K = index_TK + t * K;
  float sum = 0.0F;
  for (int k = 0; k < K; ++k) sum += score_E[index_K[k]];
  const float divisor = normalise ? sum + kTinyScore : 1.0F;
  for (int k = 0; k < K; ++k) weight_TK[t * K + k] = scaling * (score_E[index_K[k]] / divisor);
}

}  // namespace

void router_weights(const Exec& exec, const RouterWeights& a) {
  const std::int64_t T = a.index_TK.dim(0);
  router_weights_kernel<<<blocks_for(T, kThreads), kThreads, 0, exec.cuda().stream>>>(
      device_data<float>(a.weight_TK), device_data<float>(a.score_TE),
      device_data<std::int32_t>(a.index_TK), T, static_cast<int>(a.index_TK.dim(1)),
      static_cast<int>(a.score_TE.dim(1)), a.scaling, a.normalise);
  check_launch();
}

}  // namespace shoal::ops::cuda
