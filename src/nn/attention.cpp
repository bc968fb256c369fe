#include "shoal/nn/attention.hpp"

#include <cmath>

#include "shoal/nn/shard_group.hpp"
#include "shoal/ops/attention.hpp"
#include "shoal/ops/elementwise.hpp"
#include "shoal/ops/head_gate.hpp"
#include "shoal/ops/partials.hpp"

namespace shoal::nn {
namespace {

/// Queries, keys and values inside the rotated and the packed projections.
template <class View>
ops::BasicHeads<View> query_heads(const View& qk_TC, const ops::HeadLayout& h) {
  return {.rows = qk_TC, .first = 0, .heads = h.heads, .head_dim = h.head_dim};
}
template <class View>
ops::BasicHeads<View> key_heads(const View& qk_TC, const ops::HeadLayout& h) {
  return {.rows = qk_TC, .first = h.heads * h.head_dim, .heads = h.groups, .head_dim = h.head_dim};
}
template <class View>
ops::BasicHeads<View> value_heads(const View& qkv_TC, const ops::HeadLayout& h) {
  return {.rows = qkv_TC, .first = h.qk_columns(), .heads = h.groups, .head_dim = h.head_dim};
}

/// KV groups are dealt round-robin over the ranks.
ops::GroupShare group_share(const ShardGroup& group) {
  return {.stride = group.size(), .offset = group.rank()};
}

/// grad (+)= delta.
void meet(const Exec& exec, const TensorView& grad, const ConstTensorView& delta,
          ops::Accumulate accumulate) {
  if (accumulate == ops::Accumulate::add) return ops::axpy(exec, grad, delta, 1.0F);
  copy(exec, grad.bytes_begin(), delta.bytes_begin(), delta.bytes());
}

}  // namespace

Attention::Attention(const AttentionParts& parts)
    : parts_{parts},
      qkv_{parts.qkv},
      o_proj_{parts.o_proj},
      elem_{parts.qkv.value.dtype()},
      scale_{static_cast<float>(1.0 / std::sqrt(static_cast<double>(parts.heads.head_dim)))} {}

AttentionSaved Attention::reserve(const Store& store, std::int64_t tokens,
                                  Recompute recompute) const {
  AttentionSaved saved;
  if (recompute == Recompute::full) return saved;
  const ops::HeadLayout& h = parts_.heads;
  saved.qkv_TC = allocate(store, {tokens, h.qkv_columns()}, elem_);
  if (recompute == Recompute::none) {
    saved.qk_TC = allocate(store, {tokens, h.qk_columns()}, elem_);
  }
  if (has_norm()) saved.rstd_TJ = allocate(store, {tokens, h.heads + h.groups}, DType::f32);
  saved.out_TC = allocate(store, {tokens, h.heads * h.head_dim}, elem_);
  saved.lse_HT = allocate(store, {h.heads, tokens}, DType::f32);
  if (dynamic()) {
    saved.gate_T = allocate(store, {tokens}, DType::f32);
    saved.score_T = allocate(store, {tokens}, DType::f32);
    saved.active_groups_T = allocate(store, {tokens}, DType::i32);
  }
  return saved;
}

AttentionDelta Attention::reserve_delta(const Store& store, std::int64_t tokens) const {
  AttentionDelta delta;
  delta.dqkv_TC = allocate(store, {tokens, parts_.heads.qkv_columns()}, elem_);
  if (has_norm()) {
    delta.q_norm_part_Pd = ops::allocate_parts(store, tokens, parts_.heads.head_dim);
    delta.k_norm_part_Pd = ops::allocate_parts(store, tokens, parts_.heads.head_dim);
  }
  if (dynamic()) {
    delta.dgate_D = allocate(store, parts_.gate_weight.value.shape(), DType::f32);
    delta.dgate_scalars = allocate(store, {2}, DType::f32);
  }
  return delta;
}

AttentionSaved Attention::complete(const Exec& exec, const AttentionSaved& saved,
                                   std::int64_t tokens) const {
  if (saved.qkv_TC.absent()) return reserve(exec.scratch(), tokens, Recompute::none);
  AttentionSaved full = saved;
  full.qk_TC = or_scratch(exec, saved.qk_TC, {tokens, parts_.heads.qk_columns()}, elem_);
  return full;
}

void Attention::rotate(const Exec& exec, const ConstTensorView& position_T,
                       const AttentionSaved& full) const {
  ops::qk_norm_rope_forward(exec, {.qk_TC = full.qk_TC,
                                   .rstd_TJ = full.rstd_TJ,
                                   .qkv_TC = full.qkv_TC,
                                   .q_weight_d = parts_.q_norm.value,
                                   .k_weight_d = parts_.k_norm.value,
                                   .cos_PC = parts_.cos_PC,
                                   .sin_PC = parts_.sin_PC,
                                   .position_T = position_T,
                                   .layout = parts_.heads,
                                   .eps = parts_.norm_eps});
}

void Attention::run_gate(const Exec& exec, const Pass& pass, const ConstTensorView& x_TD,
                         const AttentionSaved& full) const {
  ops::head_gate_forward(exec, {.gate_T = full.gate_T,
                                .active_groups_T = full.active_groups_T,
                                .score_T = full.score_T,
                                .x_TD = x_TD,
                                .w_D = parts_.gate_weight.value,
                                .scalars = parts_.gate_scalars.value,
                                .doc_start_T = pass.batch.doc_start_T,
                                .groups = parts_.heads.groups * parts_.group->size(),
                                .block = parts_.dynamic_heads.gate_block,
                                .max_position = parts_.max_position,
                                .share = group_share(*parts_.group)});
}

void Attention::forward(const Exec& exec, const Pass& pass, const TensorView& y_TD,
                        const ConstTensorView& x_TD, const AttentionSaved& saved) const {
  const ScratchScope scope{exec};
  const ConstTensorView whole_TD = gather_tokens(exec, *parts_.group, x_TD);
  const AttentionSaved full = complete(exec, saved, whole_TD.dim(0));
  qkv_.forward(exec, full.qkv_TC, whole_TD);
  rotate(exec, pass.batch.position_T, full);
  if (dynamic()) run_gate(exec, pass, whole_TD, full);
  const ops::HeadLayout& h = parts_.heads;
  ops::attention_forward(exec, {.out = query_heads(full.out_TC, h),
                                .lse_HT = full.lse_HT,
                                .q = query_heads<ConstTensorView>(full.qk_TC, h),
                                .k = key_heads<ConstTensorView>(full.qk_TC, h),
                                .v = value_heads<ConstTensorView>(full.qkv_TC, h),
                                .doc_start_T = pass.batch.doc_start_T,
                                .active_groups_T = full.active_groups_T,
                                .scale = scale_});
  if (y_TD.absent()) return;
  const TensorView y_whole_TD = partial_target(exec, *parts_.group, y_TD);
  o_proj_.forward(exec, y_whole_TD, full.out_TC);
  scatter_partial(exec, *parts_.group, y_TD, y_whole_TD);
}

void Attention::core_backward(const Exec& exec, const Pass& pass, const ConstTensorView& dout_TC,
                              const AttentionSaved& saved, const AttentionDelta& delta) const {
  const ScratchScope scope{exec};
  const ops::HeadLayout& h = parts_.heads;
  const AttentionSaved full = complete(exec, saved, dout_TC.dim(0));
  if (saved.qk_TC.absent()) rotate(exec, pass.batch.position_T, full);
  ops::attention_backward(exec, {.dq = query_heads(delta.dqkv_TC, h),
                                 .dk = key_heads(delta.dqkv_TC, h),
                                 .dv = value_heads(delta.dqkv_TC, h),
                                 .dout = query_heads(dout_TC, h),
                                 .out = query_heads<ConstTensorView>(saved.out_TC, h),
                                 .q = query_heads<ConstTensorView>(full.qk_TC, h),
                                 .k = key_heads<ConstTensorView>(full.qk_TC, h),
                                 .v = value_heads<ConstTensorView>(saved.qkv_TC, h),
                                 .lse_HT = saved.lse_HT,
                                 .doc_start_T = pass.batch.doc_start_T,
                                 .active_groups_T = saved.active_groups_T,
                                 .scale = scale_});
  ops::qk_norm_rope_backward(exec, {.dqkv_TC = delta.dqkv_TC,
                                    .q_part_Pd = delta.q_norm_part_Pd,
                                    .k_part_Pd = delta.k_norm_part_Pd,
                                    .qkv_TC = saved.qkv_TC,
                                    .rstd_TJ = saved.rstd_TJ,
                                    .q_weight_d = parts_.q_norm.value,
                                    .k_weight_d = parts_.k_norm.value,
                                    .cos_PC = parts_.cos_PC,
                                    .sin_PC = parts_.sin_PC,
                                    .position_T = pass.batch.position_T,
                                    .layout = h});
}

void Attention::gate_backward(const Exec& exec, const Pass& pass, const GateBackward& args,
                              const AttentionSaved& saved, const AttentionDelta& delta) const {
  const DynamicHeadsConfig& config = parts_.dynamic_heads;
  // Each rank has the gradient through its own groups; the budget's enters once.
  const bool pulls = config.head_budget_coef > 0.0 && parts_.group->rank() == 0;
  ops::head_gate_backward(exec,
                          {.dx_TD = args.dx_TD,
                           .dw_D = delta.dgate_D,
                           .dscalars = delta.dgate_scalars,
                           .dout_TC = args.dout_TC,
                           .out_TC = saved.out_TC,
                           .gate_T = saved.gate_T,
                           .active_groups_T = saved.active_groups_T,
                           .x_TD = args.x_TD,
                           .w_D = parts_.gate_weight.value,
                           .scalars = parts_.gate_scalars.value,
                           .doc_start_T = pass.batch.doc_start_T,
                           .budget_scale = pulls ? pass.scalars.budget_scale : ConstTensorView{},
                           .budget = static_cast<float>(config.head_budget),
                           .sequence = pass.batch.sequence,
                           .groups = parts_.heads.groups * parts_.group->size(),
                           .heads = parts_.heads.heads,
                           .block = config.gate_block,
                           .max_position = parts_.max_position,
                           .share = group_share(*parts_.group),
                           .accumulate = ops::Accumulate::overwrite});
}

void Attention::backward_input(const Exec& exec, const Pass& pass, const BackwardInput& args,
                               const AttentionSaved& saved, AttentionDelta& delta) const {
  delta.dy_TD = args.dy_TD;
  const ScratchScope scope{exec};
  const ConstTensorView dy_TD = gather_tokens(exec, *parts_.group, args.dy_TD);
  const TensorView dout_TC = scratch(exec, saved.out_TC.shape(), elem_);
  o_proj_.backward_input(exec, dout_TC, dy_TD);
  core_backward(exec, pass, dout_TC, saved, delta);
  const TensorView dx_TD = partial_target(exec, *parts_.group, args.dx_TD);
  qkv_.backward_input(exec, dx_TD, delta.dqkv_TC);
  if (dynamic()) {
    const ConstTensorView x_TD = gather_tokens(exec, *parts_.group, args.x_TD);
    gate_backward(exec, pass, {.dx_TD = dx_TD, .x_TD = x_TD, .dout_TC = dout_TC}, saved, delta);
  }
  scatter_partial(exec, *parts_.group, args.dx_TD, dx_TD);
}

void Attention::backward_weight(const Exec& exec, const BackwardWeight& args,
                                const AttentionSaved& saved, const AttentionDelta& delta) const {
  const ScratchScope scope{exec};
  const ConstTensorView dy_TD = gather_tokens(exec, *parts_.group, delta.dy_TD);
  const ConstTensorView x_TD = gather_tokens(exec, *parts_.group, args.x_TD);
  o_proj_.backward_weight(exec, dy_TD, saved.out_TC, args.accumulate);
  qkv_.backward_weight(exec, delta.dqkv_TC, x_TD, args.accumulate);
  if (has_norm()) {
    ops::sum_parts(exec, parts_.q_norm.grad, delta.q_norm_part_Pd, args.accumulate);
    ops::sum_parts(exec, parts_.k_norm.grad, delta.k_norm_part_Pd, args.accumulate);
  }
  if (dynamic()) {
    meet(exec, parts_.gate_weight.grad, delta.dgate_D, args.accumulate);
    meet(exec, parts_.gate_scalars.grad, delta.dgate_scalars, args.accumulate);
  }
}

}  // namespace shoal::nn
