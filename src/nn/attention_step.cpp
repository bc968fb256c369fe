// Attention of new tokens over a cache, for generation.
#include "shoal/nn/attention.hpp"
#include "shoal/ops/attention.hpp"
#include "shoal/ops/head_gate.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::nn {

AttentionCache Attention::make_cache(const Exec& exec, std::int64_t max_tokens) const {
  const ops::HeadLayout& h = parts_.heads;
  const Shape rows{max_tokens, h.groups, h.head_dim};
  AttentionCache cache{.k_PGd = persistent(exec, rows, elem_, MemoryKind::cache),
                       .v_PGd = persistent(exec, rows, elem_, MemoryKind::cache),
                       .score_P1 = {}};
  if (dynamic()) {
    cache.score_P1 = persistent(exec, {max_tokens, 1}, DType::f32, MemoryKind::cache);
  }
  return cache;
}

void Attention::append(const Exec& exec, const AttentionStep& args, const AttentionCache& cache,
                       const AttentionSaved& full) const {
  const ops::HeadLayout& h = parts_.heads;
  const std::int64_t T = args.x_TD.dim(0), d = h.head_dim;
  const auto keep = [&](const TensorView& to, const TensorView& from, std::int64_t heads,
                        const ConstTensorView& slots) {
    ops::gather_rows(exec, {.rows_RD = to.rows(args.first, T).reshape({T * h.groups, d}),
                            .x_TD = from.reshape({T * heads, d}),
                            .slot_of_row_R = slots,
                            .slots_per_token = 1});
  };
  keep(cache.k_PGd, full.qk_TC, h.heads + h.groups, args.k_slot_TG);
  keep(cache.v_PGd, full.qkv_TC, h.heads + 2 * h.groups, args.v_slot_TG);
}

/// The gate needs the scores of the whole sequence, which the cache keeps: it runs over them as if
/// they were inputs of width one with weight one, and so sums in the order of the full forward.
TensorView Attention::cached_gate(const Exec& exec, const AttentionStep& args,
                                  const AttentionCache& cache) const {
  const std::int64_t T = args.x_TD.dim(0), end = args.first + T;
  const auto run = [&](const ConstTensorView& x, const ConstTensorView& w,
                       const TensorView& score) {
    const std::int64_t tokens = x.dim(0);
    const TensorView active = scratch(exec, {tokens}, DType::i32);
    ops::head_gate_forward(exec, {.gate_T = scratch(exec, {tokens}, DType::f32),
                                  .active_groups_T = active,
                                  .score_T = score,
                                  .x_TD = x,
                                  .w_D = w,
                                  .scalars = parts_.gate_scalars.value,
                                  .doc_start_T = args.doc_start_P.rows(0, tokens),
                                  .groups = parts_.heads.groups,
                                  .block = parts_.dynamic_heads.gate_block,
                                  .max_position = parts_.max_position});
    return active;
  };
  (void)run(args.x_TD, parts_.gate_weight.value, cache.score_P1.rows(args.first, T).reshape({T}));
  const TensorView active =
      run(cache.score_P1.rows(0, end), args.one, scratch(exec, {end}, DType::f32));
  return active.rows(args.first, T);
}

void Attention::step(const Exec& exec, const AttentionStep& args,
                     const AttentionCache& cache) const {
  const ScratchScope scope{exec};
  const std::int64_t T = args.x_TD.dim(0);
  const AttentionSaved full = reserve(exec.scratch(), T, Recompute::none);
  qkv_.forward(exec, full.qkv_TC, args.x_TD);
  rotate(exec, args.position_T, full);
  append(exec, args, cache, full);
  const TensorView active = dynamic() ? cached_gate(exec, args, cache) : TensorView{};
  const ops::HeadLayout& h = parts_.heads;
  ops::attention_cached(
      exec, {.out_TC = full.out_TC,
             .q = {.rows = full.qk_TC, .first = 0, .heads = h.heads, .head_dim = h.head_dim},
             .k_PGd = cache.k_PGd,
             .v_PGd = cache.v_PGd,
             .active_groups_T = active,
             .first = args.first,
             .scale = scale_});
  o_proj_.forward(exec, args.y_TD, full.out_TC);
}

}  // namespace shoal::nn
