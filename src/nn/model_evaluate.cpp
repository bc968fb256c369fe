#include <array>

#include "shoal/nn/model.hpp"
#include "shoal/ops/permute.hpp"

namespace shoal::nn {

TensorView Model::run_blocks(const Exec& exec, const Pass& pass, const ConstTensorView& input_TD,
                             const TensorView& output_TD) const {
  expect_batch(pass.batch);
  const std::array buffers = {hidden_states(exec.scratch(), pass.batch),
                              hidden_states(exec.scratch(), pass.batch)};
  std::size_t turn = 0;
  ConstTensorView x_TD = input_TD;
  TensorView y_TD;
  if (range_.embedding) {
    y_TD = buffers[turn++ % 2];
    embedding_.forward(exec, pass, y_TD);
    x_TD = y_TD;
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const bool last = i + 1 == blocks_.size() && !output_TD.absent();
    y_TD = last ? output_TD : buffers[turn++ % 2];
    BlockSaved nothing;
    nothing.x_TD = x_TD;
    blocks_[i].forward(exec, pass, y_TD, nothing);
    x_TD = y_TD;
  }
  return y_TD;
}

void Model::evaluate(const Exec& exec, const Batch& batch, const StageEvaluate& args) const {
  const ScratchScope scope{exec};
  const StepScalars no_scalars;
  const Pass pass{.batch = batch, .scalars = no_scalars, .purpose = Purpose::evaluate};
  const TensorView x_TD = run_blocks(exec, pass, args.x_TD, args.y_TD);
  if (!range_.head) return;
  const TensorView y_TD = scratch(exec, x_TD.shape(), elem_);
  final_norm_.forward(exec, {.y_TD = y_TD,
                             .rstd_T = scratch(exec, {x_TD.dim(0)}, DType::f32),
                             .sum_TD = {},
                             .x_TD = x_TD});
  head_.evaluate(exec, batch, {.loss_sum = args.loss_sum, .x_TD = y_TD});
}

void Model::logits(const Exec& exec, const Batch& batch, const ModelLogits& args) const {
  expect(range_.embedding && range_.head, "logits need the whole model");
  const ScratchScope scope{exec};
  const StepScalars no_scalars;
  const Pass pass{.batch = batch, .scalars = no_scalars, .purpose = Purpose::evaluate};
  const TensorView x_TD = run_blocks(exec, pass, {}, {});
  next_logits(exec, args, x_TD);
}

void Model::next_logits(const Exec& exec, const ModelLogits& args,
                        const ConstTensorView& x_TD) const {
  const ScratchScope scope{exec};
  const Shape rows{args.rows_N.dim(0), config_.hidden_size};
  const TensorView x_ND = scratch(exec, rows, elem_), y_ND = scratch(exec, rows, elem_);
  ops::gather_rows(
      exec, {.rows_RD = x_ND, .x_TD = x_TD, .slot_of_row_R = args.rows_N, .slots_per_token = 1});
  final_norm_.forward(
      exec,
      {.y_TD = y_ND, .rstd_T = scratch(exec, {rows[0]}, DType::f32), .sum_TD = {}, .x_TD = x_ND});
  head_.logits(exec, args.logits_NV, y_ND);
}

}  // namespace shoal::nn
