#pragma once
#include <functional>
#include <vector>

#include "shoal/pipeline/stage_verbs.hpp"

namespace shoal::pipeline {

/// The verbs of a rank's model chunks. Gradients of a chunk's weights are overwritten by the first
/// micro-batch of a step and added to by the later ones, in the order in which the schedule runs
/// backward; that is the order of micro-batches, the same as on one stage. The head's and the final
/// norm's are written in backward_input, the others in backward_weight. A tied table that embedding
/// and head hold on two ranks gets two partial gradients.
class ModelVerbs final : public StageVerbs {
 public:
  struct Parts {
    std::vector<const nn::Model*> chunks;  ///< in local order; they outlive this object
    int slots = 1;                         ///< assign_slots(...).count
    std::int64_t tokens = 0;               ///< T_part: rows of a border
    int micro_batches = 1;                 ///< of a step
  };
  explicit ModelVerbs(const Parts& parts);

  /// Brings a micro-batch's batch; called once for each forward and backward of it.
  using BatchOf = std::function<nn::Batch(int micro_batch)>;
  /// Before each run of the executor. The scalars' views stay valid during the run. Totals are the
  /// caller's to reset (nn::Model::begin_step).
  void begin_step(const nn::StepScalars& scalars, BatchOf batch_of);

  /// Shown every choice of the routers; null: nobody looks.
  void set_tap(nn::RoutingTap* tap) { tap_ = tap; }

  /// Told of weights by the first forward of each chunk in a step and of gradients by the last
  /// backward or backward_weight; null: nobody listens.
  void set_watch(nn::ParameterWatch* watch) { watch_ = watch; }

  [[nodiscard]] Border border() const override;
  ConstTensorView forward(const Exec& exec, const StageCall& call, const TensorView& x_TD) override;
  void backward_input(const Exec& exec, const StageCall& call,
                      const nn::StageGradients& gradients) override;
  void backward_weight(const Exec& exec, const StageCall& call) override;
  void backward(const Exec& exec, const StageCall& call,
                const nn::StageGradients& gradients) override;

 private:
  struct Chunk {
    const nn::Model* model = nullptr;
    std::vector<nn::MicroBatchSaved> saved;  ///< one for each slot
    bool head_written = false;               ///< in this step
    bool weights_written = false;
  };
  [[nodiscard]] Chunk& chunk_of(const StageCall& call) {
    return chunks_.at(static_cast<std::size_t>(call.chunk));
  }
  [[nodiscard]] static nn::MicroBatchSaved& saved_of(Chunk& chunk, const StageCall& call) {
    return chunk.saved.at(static_cast<std::size_t>(call.slot));
  }
  [[nodiscard]] nn::Pass pass_of(const nn::Batch& batch, bool watched) const {
    return {.batch = batch, .scalars = scalars_, .tap = tap_, .watch = watched ? watch_ : nullptr};
  }
  [[nodiscard]] bool is_last(const StageCall& call) const {
    return call.micro_batch == micro_batches_ - 1;
  }
  /// overwrite for the first call in a step, then add.
  [[nodiscard]] static ops::Accumulate accumulate(bool& written);

  std::vector<Chunk> chunks_;
  std::int64_t tokens_;
  int micro_batches_;
  nn::StepScalars scalars_;
  BatchOf batch_of_;
  nn::RoutingTap* tap_ = nullptr;
  nn::ParameterWatch* watch_ = nullptr;
};

}  // namespace shoal::pipeline
