#pragma once
#include <map>
#include <string>
#include <vector>

#include "shoal/train/state.hpp"
#include "train/parameter_io.hpp"

namespace shoal::train {

/// fp32 values of whole parameters by name, row-major, on the host: for models of test size.
using GlobalTensors = std::map<std::string, std::vector<float>>;

/// The gradients in a store, reduced or not, as they lie there.
[[nodiscard]] Field gradient_field(const Exec& exec, const nn::ParameterStore& store);

/// Whole parameters on rank 0, each element from the one rank that counts it (ShardPlan); empty
/// elsewhere. `field` holds f32. Collective over the world of the state's groups.
[[nodiscard]] GlobalTensors gather_global(const RunConfig& config, const TrainState& state,
                                          const Field& field);

}  // namespace shoal::train
