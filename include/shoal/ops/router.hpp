#pragma once
#include "shoal/ops/common.hpp"

namespace shoal::ops {

enum class RouterScore { softmax, sigmoid };

/// Sums over chunks of 64 consecutive tokens of a group, the last one shorter: the first stage of
/// router_statistics.
struct RouterChunkSums {
  TensorView score_SCE;  ///< f32 [S, chunks, E]: of the scores, normalised to sum one
  TensorView count_SCE;  ///< i32 [S, chunks, E]: how often each expert was chosen
  TensorView sums_SC2;   ///< f32 [S, chunks, 2]: entropy, logsumexp^2
  [[nodiscard]] bool absent() const { return score_SCE.absent(); }
  [[nodiscard]] std::int64_t groups() const { return score_SCE.dim(0); }
  [[nodiscard]] std::int64_t chunks() const { return score_SCE.dim(1); }
};
/// Scratch for the chunks of `groups` groups of tokens / groups tokens each.
[[nodiscard]] RouterChunkSums scratch_router_chunks(const Exec& exec, std::int64_t groups,
                                                    std::int64_t tokens, std::int64_t experts);

/// Top-k routing in fp32. score = softmax or sigmoid of the logits; the K experts with the largest
/// score + bias are chosen (ties: the lower index), in descending order; the weight of a chosen
/// expert is its score (without bias), divided by the sum of the chosen scores when `normalise`,
/// times `scaling`. (Shazeer 2017 arXiv:1701.06538; bias: Wang 2024 arXiv:2408.15664.)
struct RouterForward {
  TensorView index_TK;        ///< out i32
  TensorView weight_TK;       ///< out f32
  TensorView score_TE;        ///< out f32, saved for backward
  ConstTensorView logits_TE;  ///< f32
  ConstTensorView bias_E;     ///< f32, optional
  RouterChunkSums chunks;     ///< out, optional: the choice's statistics begin here
  RouterScore score = RouterScore::softmax;
  bool normalise = true;
  float scaling = 1.0F;
};
void router_forward(const Exec& exec, const RouterForward& args);

/// Statistics of S groups of T/S consecutive tokens (a group is a sequence, or the micro-batch):
/// how often each expert was chosen, and its mean score (sigmoid scores are first normalised to sum
/// one over the experts of a token). Plus two sums over all tokens for the router ledger.
struct RouterStatistics {
  TensorView count_SE;       ///< out i32
  TensorView mean_score_SE;  ///< out f32
  TensorView entropy_sum;    ///< out f32 [1]: sum over tokens of -sum_e p log p, in nats
  TensorView z_sum;          ///< out f32 [1]: sum over tokens of logsumexp(logits)^2
  ConstTensorView index_TK, score_TE, logits_TE;
  RouterChunkSums chunks;  ///< optional, from router_forward of this choice
  RouterScore score = RouterScore::softmax;
};
void router_statistics(const Exec& exec, const RouterStatistics& args);

/// Gradient of the logits from the chosen weights, plus the injected balance gradients of
///   aux_scale * sum_s sum_e f_se P_se,  f_se = count_se E / (K T/S),  P_se = mean_score_se
///   (Fedus 2021 arXiv:2101.03961 eq. 4, per group), and of
///   z_scale * sum_t logsumexp(logits_t)^2 (Zoph 2022 arXiv:2202.08906).
/// Scales are device scalars because they hold the loss scale and the global divisors. Where a
/// group's tokens are spread over ranks, the S blocks here are fragments of groups: count_SE holds
/// the counts of each fragment's whole group (router_group_counts), which has `group_tokens`
/// tokens.
struct RouterBackward {
  TensorView dlogits_TE;       ///< out f32
  ConstTensorView dweight_TK;  ///< f32
  ConstTensorView index_TK, weight_TK, score_TE, logits_TE;
  ConstTensorView count_SE;       ///< i32, from router_statistics
  ConstTensorView aux_scale;      ///< f32 [1], optional
  ConstTensorView z_scale;        ///< f32 [1], optional
  std::int64_t group_tokens = 0;  ///< 0: T/S, whole groups
  RouterScore score = RouterScore::softmax;
  bool normalise = true;
  float scaling = 1.0F;
};
void router_backward(const Exec& exec, const RouterBackward& args);

/// Balancing without auxiliary loss (arXiv:2408.15664): bias_e += rate * sign(mean count -
/// count_e). Nothing happens where `skip` (i32 [1]) is non-zero: the optimizer step was skipped.
struct RouterBiasUpdate {
  TensorView bias_E;        ///< in/out f32
  ConstTensorView count_E;  ///< f32 [E], of the whole global batch
  ConstTensorView skip;     ///< i32 [1], optional
  float rate = 1e-3F;
};
void router_bias_update(const Exec& exec, const RouterBiasUpdate& args);

/// On the CPU router_forward leaves the chunks alone. router_chunk_sums fills those of `args`,
/// router_statistics adds them up.
namespace cpu {
void router_forward(const Exec& exec, const RouterForward& args);
void router_chunk_sums(const Exec& exec, const RouterStatistics& args);
void router_statistics(const Exec& exec, const RouterStatistics& args);
void router_backward(const Exec& exec, const RouterBackward& args);
void router_bias_update(const Exec& exec, const RouterBiasUpdate& args);
}  // namespace cpu
namespace cuda {
void router_forward(const Exec& exec, const RouterForward& args);
void router_chunk_sums(const Exec& exec, const RouterStatistics& args);
void router_statistics(const Exec& exec, const RouterStatistics& args);
void router_backward(const Exec& exec, const RouterBackward& args);
void router_bias_update(const Exec& exec, const RouterBiasUpdate& args);
}  // namespace cuda
}  // namespace shoal::ops
