#pragma once
#include <cstdint>

#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "shoal/optim/optimizer.hpp"
#include "shoal/parallel/process_groups.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// The device side of what a checkpoint holds: weights, optimizer states and StepState, router
/// biases. Memory is the arena's, so a TrainState on a dry Exec measures it.
class TrainState {
 public:
  /// model.vocab_size must be known. Of one rank; on a dry Exec the groups may be on paper.
  TrainState(const Exec& exec, const RunConfig& config, const parallel::ProcessGroups& groups);
  TrainState(const TrainState&) = delete;
  TrainState& operator=(const TrainState&) = delete;

  /// Fresh weights and states; the same on any layout.
  void initialise(const Exec& exec, std::uint64_t seed) const;

  [[nodiscard]] const nn::RankLayout& layout() const { return layout_; }
  [[nodiscard]] const nn::ParameterStore& store() const { return store_; }
  [[nodiscard]] const nn::Model& model() const { return model_; }
  [[nodiscard]] const optim::Optimizer& optimizer() const { return optimizer_; }

 private:
  nn::RankLayout layout_;
  nn::ParameterStore store_;
  nn::ModelState model_state_;
  nn::LocalShardGroup tensor_group_;
  nn::LocalDispatcher dispatcher_;
  nn::Model model_;
  optim::Optimizer optimizer_;
};

}  // namespace shoal::train
