#pragma once
#include "shoal/train/cost_model.hpp"

namespace shoal::train {

/// Micro-batches, in units of whole ranks, that the fullest pipeline rank keeps at once.
[[nodiscard]] double micro_batches_in_flight(const parallel::ParallelConfig& config,
                                             std::int64_t micro_batches);

/// Bytes of the fullest rank by counting its largest tensors: quick and within some ten per cent,
/// to drop layouts that cannot fit before the dry run counts exactly.
[[nodiscard]] double estimate_memory(const RunConfig& config, int ranks,
                                     const std::vector<nn::StageRange>& chunks);

}  // namespace shoal::train
