#include "shoal/ops/router.hpp"

#include "ops/contract.hpp"
#include "ops/router_detail.hpp"

namespace shoal::ops {
namespace {

constexpr std::int64_t kMaxGpuExperts = 512;  // scores of a token live in one warp's registers

void expect_experts(const Exec& exec, std::int64_t experts, std::int64_t chosen) {
  expect(chosen >= 1 && chosen <= experts, "router: experts per token must be in 1..experts");
  expect(!exec.on_gpu() || experts <= kMaxGpuExperts, "router: at most 512 experts on the GPU");
}

}  // namespace

void router_forward(const Exec& exec, const RouterForward& a) {
  const std::int64_t T = a.logits_TE.dim(0), E = a.logits_TE.dim(1), K = a.index_TK.dim(1);
  expect_tensor(a.logits_TE, {T, E}, DType::f32, "logits");
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_tensor(a.score_TE, {T, E}, DType::f32, "score");
  expect_optional(a.bias_E, {E}, DType::f32, "bias");
  expect_experts(exec, E, K);
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_forward(exec, a);
  }
  cpu::router_forward(exec, a);
}

void router_statistics(const Exec& exec, const RouterStatistics& a) {
  const std::int64_t T = a.index_TK.dim(0), K = a.index_TK.dim(1);
  const std::int64_t S = a.count_SE.dim(0), E = a.count_SE.dim(1);
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.count_SE, {S, E}, DType::i32, "count");
  expect_tensor(a.mean_score_SE, {S, E}, DType::f32, "mean_score");
  expect_tensor(a.entropy_sum, {1}, DType::f32, "entropy_sum");
  expect_tensor(a.z_sum, {1}, DType::f32, "z_sum");
  expect_tensor(a.score_TE, {T, E}, DType::f32, "score");
  expect_tensor(a.logits_TE, {T, E}, DType::f32, "logits");
  expect_experts(exec, E, K);
  expect(S >= 1 && T % S == 0, "router_statistics: tokens must divide into the groups");
  if (exec.is_dry()) {
    const ScratchScope scope{exec};
    (void)router_partials(exec, a);
    return;
  }
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_statistics(exec, a);
  }
  cpu::router_statistics(exec, a);
}

void router_backward(const Exec& exec, const RouterBackward& a) {
  const std::int64_t T = a.score_TE.dim(0), E = a.score_TE.dim(1), K = a.index_TK.dim(1);
  expect_tensor(a.dlogits_TE, {T, E}, DType::f32, "dlogits");
  expect_tensor(a.dweight_TK, {T, K}, DType::f32, "dweight");
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_tensor(a.score_TE, {T, E}, DType::f32, "score");
  expect_experts(exec, E, K);
  if (!a.aux_scale.absent()) {
    const std::int64_t S = a.count_SE.dim(0);
    expect_tensor(a.aux_scale, {1}, DType::f32, "aux_scale");
    expect_tensor(a.count_SE, {S, E}, DType::i32, "count");
    expect(S >= 1 && T % S == 0, "router_backward: tokens must divide into the groups");
    expect(a.group_tokens == 0 || a.group_tokens >= T / S,
           "router_backward: a fragment is larger than its group");
  }
  if (!a.z_scale.absent()) {
    expect_tensor(a.z_scale, {1}, DType::f32, "z_scale");
    expect_tensor(a.logits_TE, {T, E}, DType::f32, "logits");
  }
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_backward(exec, a);
  }
  cpu::router_backward(exec, a);
}

void router_bias_update(const Exec& exec, const RouterBiasUpdate& a) {
  const std::int64_t E = a.bias_E.dim(0);
  expect_tensor(a.bias_E, {E}, DType::f32, "bias");
  expect_tensor(a.count_E, {E}, DType::f32, "count");
  expect_optional(a.skip, {1}, DType::i32, "skip");
  if (exec.is_dry() || E == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_bias_update(exec, a);
  }
  cpu::router_bias_update(exec, a);
}

}  // namespace shoal::ops
