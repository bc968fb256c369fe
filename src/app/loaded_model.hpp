#pragma once
#include <filesystem>
#include <string>

#include "shoal/nn/model.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/nn/token_dispatcher.hpp"
#include "shoal/text/tokenizer.hpp"
#include "shoal/train/checkpoint.hpp"

namespace shoal::app {

/// A whole model for inference on one rank: no gradients, no optimizer. Memory is the arena's, so
/// one on a dry Exec measures what a real one takes.
class LoadedModel {
 public:
  LoadedModel(const Exec& exec, const nn::ModelConfig& config, DType elem);
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  /// Weights and router biases of a checkpoint.
  void load(const Exec& exec, const std::filesystem::path& checkpoint) const;
  [[nodiscard]] const nn::Model& model() const { return model_; }

 private:
  nn::RankLayout layout_;
  nn::ParameterStore store_;
  nn::ModelState state_;
  nn::LocalShardGroup tensor_group_;
  nn::LocalDispatcher dispatcher_;
  nn::Model model_;
};

/// Names a tokenizer.json or the checkpoint whose own is meant; checks that it is the one the model
/// was trained with.
[[nodiscard]] std::unique_ptr<text::Tokenizer> tokenizer_of(const std::filesystem::path& checkpoint,
                                                            const std::string& given);

}  // namespace shoal::app
