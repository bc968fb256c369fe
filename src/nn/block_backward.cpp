#include "nn/overloaded.hpp"
#include "shoal/nn/block.hpp"
#include "shoal/nn/token_part.hpp"
#include "shoal/ops/elementwise.hpp"

namespace shoal::nn {
namespace {

Pass recomputing(const Pass& pass) {
  return {
      .batch = pass.batch, .scalars = pass.scalars, .purpose = Purpose::recompute, .tap = pass.tap};
}

}  // namespace

void Block::restore_attention(const Exec& exec, const Pass& pass, BlockSaved& saved,
                              const Store& store) const {
  if (!saved.rstd1_T.absent()) return;
  const bool needs_sum = saved.x2_TD.absent();
  const Shape rows = saved.x_TD.shape();
  reserve_attention(saved, store, pass.batch, Recompute::none);
  if (needs_sum) saved.x2_TD = allocate(store, rows, parts_.elem);
  const ScratchScope scope{exec};
  const TensorView a_TD = needs_sum ? scratch(exec, rows, parts_.elem) : TensorView{};
  attention_branch(exec, recomputing(pass), a_TD, saved);
  if (needs_sum) ops::add(exec, saved.x2_TD, saved.x_TD, a_TD);
}

void Block::restore_mlp(const Exec& exec, const Pass& pass, BlockSaved& saved,
                        const Store& store) const {
  if (!saved.rstd2_T.absent()) return;
  reserve_mlp(saved, store, pass.batch, Recompute::none);
  parts_.post_norm.forward(
      exec, {.y_TD = saved.y2_TD, .rstd_T = saved.rstd2_T, .sum_TD = {}, .x_TD = saved.x2_TD});
  mlp_branch(exec, recomputing(pass), {.y_TD = {}, .add_TD = {}}, saved);
}

void Block::reserve_mlp_delta(const Pass& pass, BlockDelta& delta, const Store& store) const {
  const std::int64_t whole = pass.batch.token_T.dim(0);
  const std::int64_t T = token_part(pass.batch, *parts_.group).count;
  const Shape rows{T, parts_.hidden};
  delta.norm2_part_PD = parts_.post_norm.reserve_parts(store, T);
  if (drops(pass, parts_.mlp_dropout)) delta.dm_TD = allocate(store, rows, parts_.elem);
  std::visit(Overloaded{[&](const Mlp& m) { delta.mlp = m.reserve_delta(store, whole); },
                        [&](const Moe& m) { delta.moe = m.reserve_delta(store, T); }},
             parts_.mlp);
}

void Block::reserve_attention_delta(const Pass& pass, BlockDelta& delta, const Store& store) const {
  const std::int64_t T = token_part(pass.batch, *parts_.group).count;
  const Shape rows{T, parts_.hidden};
  delta.norm1_part_PD = parts_.input_norm.reserve_parts(store, T);
  if (drops(pass, parts_.attention_dropout)) delta.da_TD = allocate(store, rows, parts_.elem);
  delta.attention = parts_.attention.reserve_delta(store, pass.batch.token_T.dim(0));
}

void Block::mlp_backward_input(const Exec& exec, const Pass& pass, const ConstTensorView& dy_TD,
                               const BlockSaved& saved, BlockDelta& delta) const {
  const ScratchScope scope{exec};
  const TensorView dy2_TD = scratch(exec, saved.x2_TD.shape(), parts_.elem);
  ConstTensorView dm_TD = dy_TD;
  if (drops(pass, parts_.mlp_dropout)) {
    drop(exec, pass,
         {.y_TD = delta.dm_TD, .x_TD = dy_TD, .p = parts_.mlp_dropout, .stream = mlp_stream()});
    dm_TD = delta.dm_TD;
  }
  const auto dense = [&](const Mlp& m) {
    m.backward_input(exec, {.dx_TD = dy2_TD, .dy_TD = dm_TD}, saved.mlp, delta.mlp);
  };
  const auto moe = [&](const Moe& m) {
    m.backward_input(exec, pass, {.dx_TD = dy2_TD, .dy_TD = dm_TD}, saved.moe, delta.moe);
  };
  std::visit(Overloaded{dense, moe}, parts_.mlp);
  parts_.post_norm.backward_input(exec, {.dx_TD = delta.dx2_TD,
                                         .gain_part_PD = delta.norm2_part_PD,
                                         .dy_TD = dy2_TD,
                                         .x_TD = saved.x2_TD,
                                         .rstd_T = saved.rstd2_T,
                                         .add_TD = dy_TD});
}

void Block::mlp_backward_weight(const Exec& exec, const BlockSaved& saved, const BlockDelta& delta,
                                ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  TensorView y2_TD = saved.y2_TD;
  if (y2_TD.absent()) {
    y2_TD = scratch(exec, saved.x2_TD.shape(), parts_.elem);
    parts_.post_norm.forward(
        exec, {.y_TD = y2_TD, .rstd_T = saved.rstd2_T, .sum_TD = {}, .x_TD = saved.x2_TD});
  }
  const auto dense = [&](const Mlp& m) {
    m.backward_weight(exec, y2_TD, saved.mlp, delta.mlp, accumulate);
  };
  const auto moe = [&](const Moe& m) {
    m.backward_weight(exec, y2_TD, saved.moe, delta.moe, accumulate);
  };
  std::visit(Overloaded{dense, moe}, parts_.mlp);
  parts_.post_norm.backward_weight(exec, delta.norm2_part_PD, accumulate);
}

/// Attention's input: kept, or computed again in scratch.
ConstTensorView Block::attention_input(const Exec& exec, const BlockSaved& saved) const {
  if (!saved.y1_TD.absent()) return saved.y1_TD;
  const TensorView y1_TD = scratch(exec, saved.x_TD.shape(), parts_.elem);
  parts_.input_norm.forward(
      exec, {.y_TD = y1_TD, .rstd_T = saved.rstd1_T, .sum_TD = {}, .x_TD = saved.x_TD});
  return y1_TD;
}

void Block::attention_backward_input(const Exec& exec, const Pass& pass, const TensorView& dx_TD,
                                     const BlockSaved& saved, BlockDelta& delta) const {
  const ScratchScope scope{exec};
  const TensorView dy1_TD = scratch(exec, saved.x_TD.shape(), parts_.elem);
  ConstTensorView da_TD = delta.dx2_TD;
  if (drops(pass, parts_.attention_dropout)) {
    drop(exec, pass,
         {.y_TD = delta.da_TD,
          .x_TD = delta.dx2_TD,
          .p = parts_.attention_dropout,
          .stream = attention_stream()});
    da_TD = delta.da_TD;
  }
  const bool reads_input = parts_.attention.dynamic();
  parts_.attention.backward_input(
      exec, pass,
      {.dx_TD = dy1_TD,
       .dy_TD = da_TD,
       .x_TD = reads_input ? attention_input(exec, saved) : ConstTensorView{}},
      saved.attention, delta.attention);
  parts_.input_norm.backward_input(exec, {.dx_TD = dx_TD,
                                          .gain_part_PD = delta.norm1_part_PD,
                                          .dy_TD = dy1_TD,
                                          .x_TD = saved.x_TD,
                                          .rstd_T = saved.rstd1_T,
                                          .add_TD = delta.dx2_TD});
}

void Block::attention_backward_weight(const Exec& exec, const BlockSaved& saved,
                                      const BlockDelta& delta, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  parts_.attention.backward_weight(exec,
                                   {.x_TD = attention_input(exec, saved), .accumulate = accumulate},
                                   saved.attention, delta.attention);
  parts_.input_norm.backward_weight(exec, delta.norm1_part_PD, accumulate);
}

void Block::backward_input(const Exec& exec, const Pass& pass, const BlockGradients& args,
                           BlockSaved& saved, BlockDelta& delta, const Store& store) const {
  delta.dx2_TD = allocate(store, saved.x_TD.shape(), parts_.elem);
  restore_attention(exec, pass, saved, store);
  restore_mlp(exec, pass, saved, store);
  reserve_mlp_delta(pass, delta, store);
  reserve_attention_delta(pass, delta, store);
  mlp_backward_input(exec, pass, args.dy_TD, saved, delta);
  attention_backward_input(exec, pass, args.dx_TD, saved, delta);
}

void Block::backward_weight(const Exec& exec, const BlockSaved& saved, const BlockDelta& delta,
                            ops::Accumulate accumulate) const {
  mlp_backward_weight(exec, saved, delta, accumulate);
  attention_backward_weight(exec, saved, delta, accumulate);
}

void Block::backward(const Exec& exec, const Pass& pass, const BlockGradients& args,
                     const BlockSaved& kept, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  const Store store = exec.scratch();
  BlockSaved saved = kept;
  BlockDelta delta;
  delta.dx2_TD = allocate(store, saved.x_TD.shape(), parts_.elem);
  if (saved.x2_TD.absent()) restore_attention(exec, pass, saved, store);
  {
    const ScratchScope half{exec};
    BlockSaved restored = saved;
    restore_mlp(exec, pass, restored, store);
    reserve_mlp_delta(pass, delta, store);
    mlp_backward_input(exec, pass, args.dy_TD, restored, delta);
    mlp_backward_weight(exec, restored, delta, accumulate);
  }
  restore_attention(exec, pass, saved, store);
  reserve_attention_delta(pass, delta, store);
  attention_backward_input(exec, pass, args.dx_TD, saved, delta);
  attention_backward_weight(exec, saved, delta, accumulate);
}

}  // namespace shoal::nn
