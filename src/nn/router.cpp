#include "shoal/nn/router.hpp"

#include <numeric>

#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_part.hpp"
#include "shoal/ops/router_groups.hpp"
#include "shoal/ops/router_ledger.hpp"
#include "shoal/ops/router_products.hpp"
#include "shoal/ops/router_weights.hpp"

namespace shoal::nn {

Router::Router(const ModelConfig& config, const Weight& weight, const TensorView& bias_E,
               ShardGroup* group)
    : weight_{weight},
      bias_E_{bias_E},
      score_{config.router == "sigmoid" ? ops::RouterScore::sigmoid : ops::RouterScore::softmax},
      slots_{config.num_experts_per_tok},
      normalise_{config.norm_topk_prob},
      per_sequence_{config.aux_loss_scope == "sequence"},
      aux_{config.router_aux_loss_coef > 0.0},
      z_{config.router_z_loss_coef > 0.0},
      scaling_{static_cast<float>(config.routed_scaling_factor)},
      group_{group} {}

std::int64_t Router::whole(std::int64_t tokens) const {
  return tokens * group_->size();
}

Router::Groups Router::groups(const Batch& batch, std::int64_t tokens) const {
  const std::int64_t group = per_sequence_ ? batch.sequence : whole(tokens);
  const std::int64_t fragment = std::gcd(group, tokens);
  return {.tokens = group, .fragment = fragment, .fragments = tokens / fragment};
}

RouterSaved Router::reserve(const Store& store, const Batch& batch, std::int64_t tokens) const {
  const std::int64_t E = experts();
  return {.logits_TE = allocate(store, {tokens, E}, DType::f32),
          .score_TE = allocate(store, {tokens, E}, DType::f32),
          .index_TK = allocate(store, {tokens, slots_}, DType::i32),
          .weight_TK = allocate(store, {tokens, slots_}, DType::f32),
          .count_SE = allocate(store, {groups(batch, tokens).fragments, E}, DType::i32)};
}

RouterDelta Router::reserve_delta(const Store& store, std::int64_t tokens) const {
  return {.dlogits_TE = allocate(store, {tokens, experts()}, DType::f32)};
}

ops::RouterChunkSums Router::scratch_sums(const Exec& exec, const Batch& batch,
                                          std::int64_t tokens) const {
  return ops::scratch_router_chunks(exec, groups(batch, tokens).fragments, tokens, experts());
}

void Router::forward(const Exec& exec, const ConstTensorView& x_TD, const RouterSaved& saved,
                     const ops::RouterChunkSums& sums) const {
  ops::router_logits(exec, {.logits_TE = saved.logits_TE, .x_TD = x_TD, .w_ED = weight_.value});
  ops::router_forward(exec, {.index_TK = saved.index_TK,
                             .weight_TK = saved.weight_TK,
                             .score_TE = saved.score_TE,
                             .logits_TE = saved.logits_TE,
                             .bias_E = bias_E_,
                             .chunks = sums,
                             .score = score_,
                             .normalise = normalise_,
                             .scaling = scaling_});
}

bool Router::show(const Exec& exec, RoutingTap& tap, const Batch& batch, const RouterSaved& saved,
                  std::int64_t layer) const {
  const bool replaced =
      tap.visit(exec, {.layer = layer,
                       .first_token = batch.first_token + token_part(batch, *group_).first,
                       .index_TK = saved.index_TK,
                       .score_TE = saved.score_TE,
                       .bias_E = bias_E_});
  if (!replaced) return false;
  ops::router_weights(exec, {.weight_TK = saved.weight_TK,
                             .score_TE = saved.score_TE,
                             .index_TK = saved.index_TK,
                             .normalise = normalise_,
                             .scaling = scaling_});
  return true;
}

void Router::sum_groups(const Exec& exec, const Groups& groups, const TensorView& count_SE,
                        const TensorView& fragment_SE) const {
  ops::router_group_counts(exec, {.count_FE = count_SE,
                                  .fragment_AE = gather_tokens(exec, *group_, fragment_SE),
                                  .first = group_->rank() * groups.fragments,
                                  .fragments_each = groups.tokens / groups.fragment});
}

void Router::statistics(const Exec& exec, const Batch& batch, const RouterSaved& saved,
                        const Account& account) const {
  const ScratchScope scope{exec};
  const Groups part = groups(batch, saved.index_TK.dim(0));
  const TensorView count_SE =
      part.spread() ? scratch(exec, saved.count_SE.shape(), DType::i32) : saved.count_SE;
  const TensorView mean_SE = scratch(exec, saved.count_SE.shape(), DType::f32);
  const TensorView entropy = scratch(exec, {1}, DType::f32), z = scratch(exec, {1}, DType::f32);
  ops::router_statistics(exec, {.count_SE = count_SE,
                                .mean_score_SE = mean_SE,
                                .entropy_sum = entropy,
                                .z_sum = z,
                                .index_TK = saved.index_TK,
                                .score_TE = saved.score_TE,
                                .logits_TE = saved.logits_TE,
                                .chunks = account.sums,
                                .score = score_});
  if (part.spread()) sum_groups(exec, part, saved.count_SE, count_SE);
  if (account.ledger == nullptr) return;
  ops::router_ledger_add(exec,
                         {.count_E = account.ledger->count_E,
                          .sums = account.ledger->sums,
                          .count_SE = count_SE,
                          .mean_score_SE = mean_SE,
                          .entropy_sum = entropy,
                          .z_sum = z,
                          .kept_E = account.kept_E,
                          .group_count_SE = part.spread() ? saved.count_SE : ConstTensorView{},
                          .group_tokens = part.tokens,
                          .tokens = saved.index_TK.dim(0),
                          .slots_per_token = slots_});
}

void Router::backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                            const RouterSaved& saved, const RouterDelta& delta) const {
  ops::router_backward(exec, {.dlogits_TE = delta.dlogits_TE,
                              .dweight_TK = args.dweight_TK,
                              .index_TK = saved.index_TK,
                              .weight_TK = saved.weight_TK,
                              .score_TE = saved.score_TE,
                              .logits_TE = saved.logits_TE,
                              .count_SE = saved.count_SE,
                              .aux_scale = aux_ ? pass.scalars.aux_scale : ConstTensorView{},
                              .z_scale = z_ ? pass.scalars.z_scale : ConstTensorView{},
                              .group_tokens = groups(pass.batch, saved.index_TK.dim(0)).tokens,
                              .score = score_,
                              .normalise = normalise_,
                              .scaling = scaling_});
  ops::router_input_gradient(
      exec, {.dx_TD = args.dx_TD, .dlogits_TE = delta.dlogits_TE, .w_ED = weight_.value});
}

void Router::backward_weight(const Exec& exec, const ConstTensorView& x_TD,
                             const RouterDelta& delta, ops::Accumulate accumulate) const {
  ops::router_weight_gradient(exec, {.dw_ED = weight_.grad,
                                     .dlogits_TE = delta.dlogits_TE,
                                     .x_TD = x_TD,
                                     .accumulate = accumulate});
}

}  // namespace shoal::nn
