#pragma once
#include <memory>
#include <vector>

#include "shoal/nn/block.hpp"
#include "shoal/nn/embedding.hpp"
#include "shoal/nn/lm_head.hpp"
#include "shoal/nn/model_layout.hpp"
#include "shoal/nn/model_state.hpp"
#include "shoal/nn/norm.hpp"
#include "shoal/nn/pass.hpp"
#include "shoal/nn/shard_group.hpp"

namespace shoal::nn {

class TokenDispatcher;

/// Groups that the modules meet in; they outlive the model.
struct ModelGroups {
  ShardGroup* tensor = nullptr;           ///< tensor and sequence parallelism
  TokenDispatcher* dispatcher = nullptr;  ///< may be null in a dense model
};

/// What a model is made of; store, state and groups outlive it.
struct ModelParts {
  const ModelConfig& config;
  const ComputeConfig& compute;
  const StageLayout& layout;  ///< one chunk of a RankLayout
  const ParameterStore& store;
  const ModelState& state;  ///< one for all chunks of a rank
  ModelGroups groups;
};

/// Everything one micro-batch leaves for its backward, in memory of its saved slot.
struct MicroBatchSaved {
  TensorView input_TD;   ///< elem: the stage's input; a later stage's caller allocates it in the
                         ///< slot and receives into it
  TensorView output_TD;  ///< elem: what the next stage receives; set by forward
  std::vector<BlockSaved> layers;
  std::vector<BlockDelta> deltas;  ///< what a delayed backward_weight reads
  TensorView dembedding_TD;        ///< elem: gradient of the embedding's output
};

/// Where a stage's gradients cross its borders.
struct StageGradients {
  TensorView dx_TD;       ///< out elem: of the stage's input; absent with an embedding
  ConstTensorView dy_TD;  ///< elem: of the stage's output; absent with a head
};

struct StageEvaluate {
  ConstTensorView x_TD;  ///< elem: input; absent with an embedding
  TensorView y_TD;       ///< out elem: output; absent with a head
  /// f32 [1], in/out: the summed loss of the unmasked targets of this rank's tokens is added.
  TensorView loss_sum;
};

struct ModelLogits {
  TensorView logits_NV;    ///< out f32
  ConstTensorView rows_N;  ///< i32: tokens of the batch, in [0, T)
};

/// One chunk of the decoder of DESIGN section 4; the whole model is the chunk of all layers. Holds
/// views and small host data only. No verb allocates outside the arena or waits.
///
/// A batch is always the whole micro-batch of T tokens; hidden states and their gradients, also
/// those that cross stages, are the part of this tensor parallel rank (token_part.hpp).
///
/// A step: begin_step(), then for each micro-batch forward, backward_input, backward_weight (or
/// train_micro_batch), with Accumulate::overwrite for the first micro-batch and add for the others.
class Model {
 public:
  explicit Model(const ModelParts& parts);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const StageRange& range() const { return range_; }
  [[nodiscard]] const ModelState& state() const { return *state_; }
  [[nodiscard]] MicroBatchSaved make_saved() const;

  /// Sets all totals of the step to zero; once for all chunks that share the state.
  void begin_step(const Exec& exec) const;
  /// Tensors for backward come from `slot`. Does not compute the loss.
  void forward(const Exec& exec, const Pass& pass, MicroBatchSaved& saved, Store slot) const;
  /// Gradients of activations. With a head this also computes the loss (added to
  /// state().loss_sum) and the head's weight gradient, which meets its buffer as `accumulate` says.
  /// What backward_weight needs comes from `slot`.
  void backward_input(const Exec& exec, const Pass& pass, const StageGradients& gradients,
                      MicroBatchSaved& saved, Store slot, ops::Accumulate accumulate) const;
  void backward_weight(const Exec& exec, const Pass& pass, const MicroBatchSaved& saved,
                       ops::Accumulate accumulate) const;
  /// Both at once, layer by layer, in scratch: the least memory. The same bits as the two calls.
  void backward(const Exec& exec, const Pass& pass, const StageGradients& gradients,
                MicroBatchSaved& saved, ops::Accumulate accumulate) const;

  /// forward and backward of the whole model in saved slot `slot`, which is free again afterwards.
  void train_micro_batch(const Exec& exec, const Pass& pass, MicroBatchSaved& saved, int slot,
                         ops::Accumulate accumulate) const;

  /// Forward without dropout and without gradients; all memory is scratch.
  void evaluate(const Exec& exec, const Batch& batch, const StageEvaluate& args) const;
  /// Next-token logits of some tokens of a batch; needs embedding and head on this stage and a
  /// tensor parallel group of one.
  void logits(const Exec& exec, const Batch& batch, const ModelLogits& args) const;

  /// Balance without auxiliary loss for the layers of this chunk: once a step, after state().totals
  /// was summed over all ranks. `skip` (i32 [1], optional): non-zero when the optimizer step was
  /// skipped.
  void update_router_bias(const Exec& exec, const ConstTensorView& skip) const;

  // for generation
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  [[nodiscard]] const Embedding& embedding() const { return embedding_; }
  /// Logits from the last block's output; rows_N chooses its rows.
  void next_logits(const Exec& exec, const ModelLogits& args, const ConstTensorView& x_TD) const;
  [[nodiscard]] DType elem_dtype() const { return elem_; }
  [[nodiscard]] int tensor_ranks() const { return tensor_->size(); }

 private:
  /// Gradient of the last block's output: loss, head and final norm.
  void head_backward(const Exec& exec, const Pass& pass, const TensorView& dx_TD,
                     const ConstTensorView& x_TD, ops::Accumulate accumulate) const;
  void embedding_backward(const Exec& exec, const Pass& pass, const ConstTensorView& dx_TD,
                          ops::Accumulate accumulate) const;
  /// Tell pass.watch, where there is one.
  void before_layer(const Exec& exec, const Pass& pass, std::size_t block) const;
  void before_table(const Exec& exec, const Pass& pass) const;
  void before_head(const Exec& exec, const Pass& pass) const;
  void after_layer(const Exec& exec, const Pass& pass, std::size_t block) const;
  void after_table(const Exec& exec, const Pass& pass) const;
  void after_head(const Exec& exec, const Pass& pass) const;
  void expect_batch(const Batch& batch) const;
  /// Memory for the hidden states of this rank's tokens.
  [[nodiscard]] TensorView hidden_states(const Store& store, const Batch& batch) const;
  /// Output of the last block without gradients; in y_TD where given, otherwise in scratch.
  [[nodiscard]] TensorView run_blocks(const Exec& exec, const Pass& pass,
                                      const ConstTensorView& x_TD, const TensorView& y_TD) const;

  ModelConfig config_;
  StageRange range_;
  DType elem_;
  const ModelState* state_;
  ShardGroup* tensor_;
  bool head_writes_table_;
  StageLayout layout_;
  std::vector<Block> blocks_;
  Embedding embedding_;
  RmsNorm final_norm_;
  LmHead head_;
};

}  // namespace shoal::nn
