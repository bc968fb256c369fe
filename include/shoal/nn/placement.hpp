#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace shoal::nn {

struct ModelConfig;

/// Which part of each tensor of a stage a rank holds. KV groups are dealt round-robin over tp
/// (query heads go with their group), MLP columns and vocabulary rows are contiguous over tp,
/// experts are contiguous over ep. Everything else is whole.
struct Placement {
  int tp = 1, tp_rank = 0;
  int ep = 1, ep_rank = 0;
};

/// Degrees that cut a model. `tokens` are those of a micro-batch (0: not known, not checked):
/// sequence parallelism cuts them into tp equal parts.
struct SplitDegrees {
  int tp = 1;
  int pp = 1;
  int ep = 1;
  int chunks = 1;  ///< model chunks of a rank
  std::int64_t tokens = 0;
};
/// Appends every reason why the model cannot be cut so, each naming its key and the allowed values.
void validate_placement(const ModelConfig& config, const SplitDegrees& degrees,
                        std::vector<std::string>& problems);

}  // namespace shoal::nn
