#pragma once
#include <optional>

#include "shoal/data/loader.hpp"
#include "shoal/train/step.hpp"
#include "train/global_tensors.hpp"

namespace shoal::train {

/// The first step of a run, in memory of its own, and what it leaves.
class ProbeRun {
 public:
  /// model.vocab_size must be known. Collective over the world of the links.
  ProbeRun(const RunConfig& config, const RankLinks& links);

  /// Fresh weights; what was learnt and read is forgotten.
  void start();
  void step();
  [[nodiscard]] TrainStep& train_step() { return *step_; }
  [[nodiscard]] const Exec& exec() const { return *exec_; }
  [[nodiscard]] const TrainState& state() const { return *state_; }
  [[nodiscard]] const BatchShape& shape() const { return shape_; }

  [[nodiscard]] GlobalTensors weights() const;    ///< on rank 0
  [[nodiscard]] GlobalTensors gradients() const;  ///< on rank 0, unscaled
  [[nodiscard]] double loss() const { return loss_; }
  [[nodiscard]] double grad_norm() const { return static_cast<double>(result_.state.grad_norm); }
  /// Tokens of the global batch that this rank read, -1 elsewhere.
  [[nodiscard]] const std::vector<std::int32_t>& samples() const { return samples_; }

 private:
  void note_samples(const data::StepBatch& batch);

  RunConfig config_;
  RankLinks links_;
  BatchShape shape_;
  std::optional<Exec> exec_;
  std::optional<TrainState> state_;
  std::optional<TrainStep> step_;
  std::vector<std::int32_t> samples_;
  StepResult result_;
  double loss_ = 0.0;
};

}  // namespace shoal::train
