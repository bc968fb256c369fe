#pragma once
#include "shoal/train/cost_model.hpp"
#include "train/network_cost.hpp"

namespace shoal::train {

/// What follows the micro-batches of a step on one pipeline rank.
struct UpdateCost {
  double reduce_s = 0.0;  ///< gradients and updated weights over their replicas, nothing hidden
  double optimizer_s = 0.0;
  AxisTraffic sent;
};

/// Replicas of each class of parameters.
struct Replicas {
  GroupShape dense, replicated, experts;
};
[[nodiscard]] Replicas replicas_of(const parallel::ParallelConfig& config, int ranks);

/// Bytes of one rank's optimizer states, low halves of weights included, under ZeRO-1 or not.
[[nodiscard]] double state_bytes(const RunConfig& config, const HeldParameters& held,
                                 const Replicas& replicas);

[[nodiscard]] UpdateCost update_cost(const RunConfig& config, const HeldParameters& held,
                                     const Replicas& replicas, const Calibration& calibration,
                                     const NetworkCost& network);

}  // namespace shoal::train
