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

void expect_chunks(const RouterChunkSums& chunks, std::int64_t S, std::int64_t T, std::int64_t E) {
  expect(S >= 1 && T % S == 0, "router: tokens must divide into the groups");
  const std::int64_t C = ceil_div(T / S, kStatisticsChunk);
  expect_tensor(chunks.score_SCE, {S, C, E}, DType::f32, "chunk scores");
  expect_tensor(chunks.count_SCE, {S, C, E}, DType::i32, "chunk counts");
  expect_tensor(chunks.sums_SC2, {S, C, 2}, DType::f32, "chunk sums");
}

}  // namespace

RouterChunkSums scratch_router_chunks(const Exec& exec, std::int64_t groups, std::int64_t tokens,
                                      std::int64_t experts) {
  const std::int64_t chunks = groups == 0 ? 0 : ceil_div(tokens / groups, kStatisticsChunk);
  return {.score_SCE = scratch(exec, {groups, chunks, experts}, DType::f32),
          .count_SCE = scratch(exec, {groups, chunks, experts}, DType::i32),
          .sums_SC2 = scratch(exec, {groups, chunks, 2}, DType::f32)};
}

void router_forward(const Exec& exec, const RouterForward& a) {
  const std::int64_t T = a.logits_TE.dim(0), E = a.logits_TE.dim(1), K = a.index_TK.dim(1);
  expect_tensor(a.logits_TE, {T, E}, DType::f32, "logits");
  expect_tensor(a.index_TK, {T, K}, DType::i32, "index");
  expect_tensor(a.weight_TK, {T, K}, DType::f32, "weight");
  expect_tensor(a.score_TE, {T, E}, DType::f32, "score");
  expect_optional(a.bias_E, {E}, DType::f32, "bias");
  expect_experts(exec, E, K);
  if (!a.chunks.absent()) expect_chunks(a.chunks, a.chunks.groups(), T, E);
  if (exec.is_dry() || T == 0) return;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) return cuda::router_forward(exec, a);
  }
  cpu::router_forward(exec, a);
  if (a.chunks.absent()) return;
  cpu::router_chunk_sums(exec, {.index_TK = a.index_TK,
                                .score_TE = a.score_TE,
                                .logits_TE = a.logits_TE,
                                .chunks = a.chunks,
                                .score = a.score});
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
  if (!a.chunks.absent()) expect_chunks(a.chunks, S, T, E);
  const ScratchScope scope{exec};
  RouterStatistics staged = a;
  if (a.chunks.absent()) staged.chunks = scratch_router_chunks(exec, S, T, E);
  if (exec.is_dry()) return;
  const bool sum_first = a.chunks.absent() && T > 0;
  if constexpr (kHasCuda) {
    if (exec.on_gpu()) {
      if (sum_first) cuda::router_chunk_sums(exec, staged);
      return cuda::router_statistics(exec, staged);
    }
  }
  if (sum_first) cpu::router_chunk_sums(exec, staged);
  cpu::router_statistics(exec, staged);
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
