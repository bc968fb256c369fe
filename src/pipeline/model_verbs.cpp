#include "shoal/pipeline/model_verbs.hpp"

#include <utility>

#include "shoal/base/error.hpp"

namespace shoal::pipeline {

ModelVerbs::ModelVerbs(const Parts& parts)
    : tokens_{parts.tokens}, micro_batches_{parts.micro_batches} {
  expect(!parts.chunks.empty(), "a pipeline rank holds at least one chunk");
  for (const nn::Model* model : parts.chunks) {
    Chunk& chunk = chunks_.emplace_back();
    chunk.model = model;
    for (int slot = 0; slot < parts.slots; ++slot) chunk.saved.push_back(model->make_saved());
  }
}

void ModelVerbs::begin_step(const nn::StepScalars& scalars, BatchOf batch_of) {
  scalars_ = scalars;
  batch_of_ = std::move(batch_of);
  for (Chunk& chunk : chunks_) chunk.head_written = chunk.weights_written = false;
}

Border ModelVerbs::border() const {
  const nn::Model& model = *chunks_.front().model;
  return {.shape = {tokens_, model.config().hidden_size}, .dtype = model.elem_dtype()};
}

ops::Accumulate ModelVerbs::accumulate(bool& written) {
  return std::exchange(written, true) ? ops::Accumulate::add : ops::Accumulate::overwrite;
}

ConstTensorView ModelVerbs::forward(const Exec& exec, const StageCall& call,
                                    const TensorView& x_TD) {
  Chunk& chunk = chunk_of(call);
  nn::MicroBatchSaved& saved = saved_of(chunk, call);
  const nn::Batch batch = batch_of_(call.micro_batch);
  saved.input_TD = x_TD;
  chunk.model->forward(exec, pass_of(batch, call.micro_batch == 0), saved,
                       exec.arena().saved(call.slot));
  return saved.output_TD;
}

void ModelVerbs::backward_input(const Exec& exec, const StageCall& call,
                                const nn::StageGradients& gradients) {
  Chunk& chunk = chunk_of(call);
  const nn::Batch batch = batch_of_(call.micro_batch);
  chunk.model->backward_input(exec, pass_of(batch, false), gradients, saved_of(chunk, call),
                              exec.arena().saved(call.delta_slot), accumulate(chunk.head_written));
}

void ModelVerbs::backward_weight(const Exec& exec, const StageCall& call) {
  Chunk& chunk = chunk_of(call);
  const nn::Batch batch = batch_of_(call.micro_batch);
  chunk.model->backward_weight(exec, pass_of(batch, is_last(call)), saved_of(chunk, call),
                               accumulate(chunk.weights_written));
}

void ModelVerbs::backward(const Exec& exec, const StageCall& call,
                          const nn::StageGradients& gradients) {
  Chunk& chunk = chunk_of(call);
  const nn::Batch batch = batch_of_(call.micro_batch);
  chunk.model->backward(exec, pass_of(batch, is_last(call)), gradients, saved_of(chunk, call),
                        accumulate(chunk.weights_written));
}

}  // namespace shoal::pipeline
