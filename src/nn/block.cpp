#include "shoal/nn/block.hpp"

#include "nn/overloaded.hpp"
#include "shoal/nn/token_part.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::nn {

BlockSaved Block::reserve(const Store& store, const Batch& batch) const {
  const std::int64_t T = token_part(batch, *parts_.group).count;
  const Recompute attention = parts_.recompute_attention, mlp = parts_.recompute_mlp;
  BlockSaved saved;
  if (attention != Recompute::full) reserve_attention(saved, store, batch, attention);
  if (attention != Recompute::full || mlp != Recompute::full) {
    saved.x2_TD = allocate(store, {T, parts_.hidden}, parts_.elem);
  }
  if (mlp != Recompute::full) reserve_mlp(saved, store, batch, mlp);
  return saved;
}

void Block::reserve_attention(BlockSaved& saved, const Store& store, const Batch& batch,
                              Recompute recompute) const {
  const std::int64_t T = token_part(batch, *parts_.group).count;
  if (recompute == Recompute::none) {
    saved.y1_TD = allocate(store, {T, parts_.hidden}, parts_.elem);
  }
  saved.rstd1_T = allocate(store, {T}, DType::f32);
  saved.attention = parts_.attention.reserve(store, batch.token_T.dim(0), recompute);
}

void Block::reserve_mlp(BlockSaved& saved, const Store& store, const Batch& batch,
                        Recompute recompute) const {
  const std::int64_t T = token_part(batch, *parts_.group).count;
  if (recompute == Recompute::none) {
    saved.y2_TD = allocate(store, {T, parts_.hidden}, parts_.elem);
  }
  saved.rstd2_T = allocate(store, {T}, DType::f32);
  std::visit(Overloaded{[&](const Mlp& m) {
                          saved.mlp = m.reserve(store, batch.token_T.dim(0), recompute);
                        },
                        [&](const Moe& m) { saved.moe = m.reserve(store, batch, T, recompute); }},
             parts_.mlp);
}

void Block::drop(const Exec& exec, const Pass& pass, const Drop& args) const {
  ops::dropout(exec,
               {.y = args.y_TD,
                .x = args.x_TD,
                .add = args.add_TD,
                .step_seed = pass.scalars.step_seed,
                .p = args.p,
                .stream = args.stream,
                .first = (pass.batch.first_token + token_part(pass.batch, *parts_.group).first) *
                         parts_.hidden});
}

void Block::attention_branch(const Exec& exec, const Pass& pass, const TensorView& a_TD,
                             const BlockSaved& full) const {
  parts_.input_norm.forward(
      exec, {.y_TD = full.y1_TD, .rstd_T = full.rstd1_T, .sum_TD = {}, .x_TD = full.x_TD});
  parts_.attention.forward(exec, pass, a_TD, full.y1_TD, full.attention);
  if (!a_TD.absent() && drops(pass, parts_.attention_dropout)) {
    drop(exec, pass,
         {.y_TD = a_TD, .x_TD = a_TD, .p = parts_.attention_dropout, .stream = attention_stream()});
  }
}

void Block::mlp_branch(const Exec& exec, const Pass& pass, const MlpBranch& args,
                       const BlockSaved& full) const {
  const auto dense = [&](const Mlp& m) {
    const bool add = !args.add_TD.absent() && !args.y_TD.absent();
    if (add) copy(exec, args.y_TD.bytes_begin(), args.add_TD.bytes_begin(), args.add_TD.bytes());
    m.forward(exec,
              {.y_TD = args.y_TD,
               .x_TD = full.y2_TD,
               .accumulate = add ? ops::Accumulate::add : ops::Accumulate::overwrite},
              full.mlp);
  };
  const auto moe = [&](const Moe& m) {
    m.forward(exec, pass, {.y_TD = args.y_TD, .x_TD = full.y2_TD, .add_TD = args.add_TD}, full.moe);
  };
  std::visit(Overloaded{dense, moe}, parts_.mlp);
}

void Block::mlp_output(const Exec& exec, const Pass& pass, const TensorView& y_TD,
                       const BlockSaved& full) const {
  if (!drops(pass, parts_.mlp_dropout)) {
    return mlp_branch(exec, pass, {.y_TD = y_TD, .add_TD = full.x2_TD}, full);
  }
  const ScratchScope scope{exec};
  const TensorView m_TD = scratch(exec, y_TD.shape(), parts_.elem);
  mlp_branch(exec, pass, {.y_TD = m_TD, .add_TD = {}}, full);
  drop(exec, pass,
       {.y_TD = y_TD,
        .x_TD = m_TD,
        .add_TD = full.x2_TD,
        .p = parts_.mlp_dropout,
        .stream = mlp_stream()});
}

/// Norms' outputs and statistics that the caller does not keep lie in scratch.
BlockSaved Block::complete(const Exec& exec, const BlockSaved& saved) const {
  BlockSaved full = saved;
  const Shape rows{saved.x_TD.dim(0), parts_.hidden}, row{saved.x_TD.dim(0)};
  full.y1_TD = or_scratch(exec, saved.y1_TD, rows, parts_.elem);
  full.rstd1_T = or_scratch(exec, saved.rstd1_T, row, DType::f32);
  full.x2_TD = or_scratch(exec, saved.x2_TD, rows, parts_.elem);
  full.y2_TD = or_scratch(exec, saved.y2_TD, rows, parts_.elem);
  full.rstd2_T = or_scratch(exec, saved.rstd2_T, row, DType::f32);
  return full;
}

void Block::forward(const Exec& exec, const Pass& pass, const TensorView& y_TD,
                    const BlockSaved& saved) const {
  const ScratchScope scope{exec};
  const BlockSaved full = complete(exec, saved);
  {
    const ScratchScope branch{exec};
    const TensorView a_TD = scratch(exec, y_TD.shape(), parts_.elem);
    attention_branch(exec, pass, a_TD, full);
    parts_.post_norm.forward(exec, {.y_TD = full.y2_TD,
                                    .rstd_T = full.rstd2_T,
                                    .sum_TD = full.x2_TD,
                                    .x_TD = full.x_TD,
                                    .add_TD = a_TD});
  }
  mlp_output(exec, pass, y_TD, full);
}

void Block::step(const Exec& exec, const Pass& pass, const AttentionStep& step,
                 const AttentionCache& cache) const {
  const ScratchScope scope{exec};
  const BlockSaved full = complete(exec, {.x_TD = step.x_TD});
  const TensorView a_TD = scratch(exec, step.y_TD.shape(), parts_.elem);
  parts_.input_norm.forward(
      exec, {.y_TD = full.y1_TD, .rstd_T = full.rstd1_T, .sum_TD = {}, .x_TD = full.x_TD});
  AttentionStep inner = step;
  inner.x_TD = full.y1_TD;
  inner.y_TD = a_TD;
  parts_.attention.step(exec, inner, cache);
  parts_.post_norm.forward(exec, {.y_TD = full.y2_TD,
                                  .rstd_T = full.rstd2_T,
                                  .sum_TD = full.x2_TD,
                                  .x_TD = full.x_TD,
                                  .add_TD = a_TD});
  mlp_output(exec, pass, step.y_TD, full);
}

}  // namespace shoal::nn
