#include "shoal/nn/model.hpp"

#include <array>

#include "shoal/nn/token_part.hpp"
#include "shoal/ops/router.hpp"

namespace shoal::nn {
MicroBatchSaved Model::make_saved() const {
  MicroBatchSaved saved;
  saved.layers.resize(blocks_.size());
  saved.deltas.resize(blocks_.size());
  return saved;
}

void Model::begin_step(const Exec& exec) const {
  zero(exec, state_->totals);
}

TensorView Model::hidden_states(const Store& store, const Batch& batch) const {
  return allocate(store, {token_part(batch, *tensor_).count, config_.hidden_size}, elem_);
}

void Model::expect_batch(const Batch& batch) const {
  expect(batch.sequence >= 1 && batch.token_T.dim(0) % batch.sequence == 0,
         "a micro-batch holds whole sequences");
  expect(batch.sequence <= config_.max_position_embeddings,
         "a sequence is longer than max_position_embeddings");
  expect(batch.token_T.dim(0) % tensor_->size() == 0,
         "the tokens of a micro-batch divide over the tensor parallel ranks");
}

void Model::forward(const Exec& exec, const Pass& pass, MicroBatchSaved& saved, Store slot) const {
  expect_batch(pass.batch);
  if (range_.embedding) {
    saved.input_TD = hidden_states(slot, pass.batch);
    before_table(exec, pass);
    embedding_.forward(exec, pass, saved.input_TD);
  }
  TensorView x_TD = saved.input_TD;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const TensorView y_TD = hidden_states(slot, pass.batch);
    saved.layers[i] = blocks_[i].reserve(slot, pass.batch);
    saved.layers[i].x_TD = x_TD;
    before_layer(exec, pass, i);
    blocks_[i].forward(exec, pass, y_TD, saved.layers[i]);
    x_TD = y_TD;
  }
  saved.output_TD = x_TD;
  if (range_.head) before_head(exec, pass);
}

void Model::head_backward(const Exec& exec, const Pass& pass, const TensorView& dx_TD,
                          const ConstTensorView& x_TD, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  const TensorView y_TD = scratch(exec, x_TD.shape(), elem_);
  const TensorView dy_TD = scratch(exec, x_TD.shape(), elem_);
  const TensorView rstd_T = scratch(exec, {x_TD.dim(0)}, DType::f32);
  final_norm_.forward(exec, {.y_TD = y_TD, .rstd_T = rstd_T, .sum_TD = {}, .x_TD = x_TD});
  head_.train(
      exec, pass.batch, pass.scalars.loss_grad_scale,
      {.loss_sum = state_->loss_sum, .dx_TD = dy_TD, .x_TD = y_TD, .accumulate = accumulate});
  const TensorView gain_part_PD = final_norm_.reserve_parts(exec.scratch(), x_TD.dim(0));
  final_norm_.backward_input(exec, {.dx_TD = dx_TD,
                                    .gain_part_PD = gain_part_PD,
                                    .dy_TD = dy_TD,
                                    .x_TD = x_TD,
                                    .rstd_T = rstd_T});
  final_norm_.backward_weight(exec, gain_part_PD, accumulate);
}

void Model::backward_input(const Exec& exec, const Pass& pass, const StageGradients& gradients,
                           MicroBatchSaved& saved, Store slot, ops::Accumulate accumulate) const {
  ConstTensorView dy_TD = gradients.dy_TD;
  if (range_.head) {
    const TensorView dx_TD = hidden_states(slot, pass.batch);
    head_backward(exec, pass, dx_TD, saved.output_TD, accumulate);
    dy_TD = dx_TD;
    saved.dembedding_TD = dx_TD;
  }
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    const bool border = i == 0 && !range_.embedding;
    const TensorView dx_TD = border ? gradients.dx_TD : hidden_states(slot, pass.batch);
    blocks_[i].backward_input(exec, pass, {.dx_TD = dx_TD, .dy_TD = dy_TD}, saved.layers[i],
                              saved.deltas[i], slot);
    dy_TD = dx_TD;
    saved.dembedding_TD = dx_TD;
  }
}

void Model::backward_weight(const Exec& exec, const Pass& pass, const MicroBatchSaved& saved,
                            ops::Accumulate accumulate) const {
  if (range_.head) after_head(exec, pass);
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    blocks_[i].backward_weight(exec, saved.layers[i], saved.deltas[i], accumulate);
    after_layer(exec, pass, i);
  }
  embedding_backward(exec, pass, saved.dembedding_TD, accumulate);
}

void Model::embedding_backward(const Exec& exec, const Pass& pass, const ConstTensorView& dx_TD,
                               ops::Accumulate accumulate) const {
  if (!range_.embedding) return;
  embedding_.backward_weight(exec, pass, dx_TD,
                             head_writes_table_ ? ops::Accumulate::add : accumulate);
  after_table(exec, pass);
}

void Model::backward(const Exec& exec, const Pass& pass, const StageGradients& gradients,
                     MicroBatchSaved& saved, ops::Accumulate accumulate) const {
  const ScratchScope scope{exec};
  const std::array buffers = {hidden_states(exec.scratch(), pass.batch),
                              hidden_states(exec.scratch(), pass.batch)};
  std::size_t turn = 0;
  const auto next = [&] { return buffers[turn++ % 2]; };
  ConstTensorView dy_TD = gradients.dy_TD;
  if (range_.head) {
    const TensorView dx_TD = next();
    head_backward(exec, pass, dx_TD, saved.output_TD, accumulate);
    after_head(exec, pass);
    dy_TD = dx_TD;
  }
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    const bool border = i == 0 && !range_.embedding;
    const TensorView dx_TD = border ? gradients.dx_TD : next();
    blocks_[i].backward(exec, pass, {.dx_TD = dx_TD, .dy_TD = dy_TD}, saved.layers[i], accumulate);
    after_layer(exec, pass, i);
    dy_TD = dx_TD;
  }
  embedding_backward(exec, pass, dy_TD, accumulate);
}

void Model::train_micro_batch(const Exec& exec, const Pass& pass, MicroBatchSaved& saved, int slot,
                              ops::Accumulate accumulate) const {
  expect(range_.embedding && range_.head, "train_micro_batch needs the whole model");
  forward(exec, pass, saved, exec.arena().saved(slot));
  backward(exec, pass, {}, saved, accumulate);
  exec.arena().free_saved(slot);
}

void Model::update_router_bias(const Exec& exec, const ConstTensorView& skip) const {
  if (config_.router_bias_update_rate <= 0.0) return;
  for (const RouterLedger& ledger : state_->ledger) {
    if (ledger.layer < range_.first_layer || ledger.layer >= range_.last_layer) continue;
    const auto layer = static_cast<std::size_t>(ledger.layer);
    ops::router_bias_update(exec, {.bias_E = state_->router_bias[layer],
                                   .count_E = ledger.count_E,
                                   .skip = skip,
                                   .rate = static_cast<float>(config_.router_bias_update_rate)});
  }
}

}  // namespace shoal::nn
