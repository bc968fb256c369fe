#include "shoal/ops/router_weights.hpp"

#include "ops/contract.hpp"
#include "ops/router_detail.hpp"

namespace shoal::ops {

void router_weights(const Exec& exec, const RouterWeights& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1), E = a.score_TE.dim(1);
  expect_tensor(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_tensor(a.score_TE, {T, E}, DType::f32, "score");
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect(K >= 1 && K <= E, "router: experts per token must be in 1..experts");
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_weights(exec, a);
  }
  cpu::router_weights(exec, a);
}

void cpu::router_weights(const Exec&, const RouterWeights& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1), E = a.score_TE.dim(1);
#pragma omp parallel for
  for (std::int64_t t = 0; t < T; ++t) {
    const float* score_E = a.score_TE.data<float>() + t * E;
    const std::int32_t* index_K = a.index_TK.data<std::int32_t>() + t * K;
    float sum = 0.0F;
    for (std::int64_t k = 0; k < K; ++k) sum += score_E[index_K[k]];
    const float divisor = a.normalise ? sum + kTinyScore : 1.0F;
    float* weight_K = a.weight_TK.data<float>() + t * K;
    for (std::int64_t k = 0; k < K; ++k) weight_K[k] = a.scaling * (score_E[index_K[k]] / divisor);
  }
}

}  // namespace shoal::ops
