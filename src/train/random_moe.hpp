#pragma once
#include "shoal/nn/moe.hpp"
#include "shoal/nn/shard_group.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// A MoE layer with fresh weights, for one rank: what benchmarks route with. Takes persistent
/// memory.
class RandomMoe {
 public:
  RandomMoe(const Exec& exec, const RunConfig& config);
  RandomMoe(const RandomMoe&) = delete;
  RandomMoe& operator=(const RandomMoe&) = delete;

  [[nodiscard]] const nn::Moe& layer() const { return layer_; }
  [[nodiscard]] const nn::Router& router() const { return router_; }
  [[nodiscard]] nn::TokenDispatcher& dispatcher() { return dispatcher_; }
  /// All gradient scales are one.
  [[nodiscard]] nn::Pass pass(const nn::Batch& batch) const {
    return {.batch = batch, .scalars = scalars_};
  }

 private:
  nn::ModelConfig config_;
  nn::RankLayout layout_;
  nn::ParameterStore store_;
  nn::ModelState state_;
  nn::LocalShardGroup group_;
  nn::LocalDispatcher dispatcher_;
  TensorView ones_;
  nn::StepScalars scalars_;
  nn::Router router_;
  nn::Moe layer_;
};

}  // namespace shoal::train
