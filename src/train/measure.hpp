#pragma once
#include <string>
#include <vector>

#include "shoal/device/arena.hpp"
#include "shoal/parallel/process_groups.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// What the step and an evaluation take on one rank, from a dry run of both. The groups are on
/// paper.
struct Measured {
  ArenaPlan memory;
  double sent_bytes = 0.0;  ///< by this rank in a step, for gradients and weights
};
[[nodiscard]] Measured measure(const RunConfig& config, const BatchShape& shape, DeviceKind device,
                               const parallel::ProcessGroups& groups);

/// One entry of data.train.
struct SourceName {
  std::string folder;
  double weight = 1.0;
};
/// "a", or "a:0.7, b:0.3". InputError when a weight is not a positive number.
[[nodiscard]] std::vector<SourceName> parse_blend(const std::string& text);

}  // namespace shoal::train
