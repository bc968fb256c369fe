#pragma once
#include "shoal/nn/batch.hpp"
#include "shoal/nn/shard_group.hpp"

namespace shoal::nn {

/// Sequence parallelism: the tokens [first, first + count) of a micro-batch whose hidden states
/// this rank of the tensor parallel group holds, one of size() equal parts.
struct TokenPart {
  std::int64_t first = 0;
  std::int64_t count = 0;
};
[[nodiscard]] inline TokenPart token_part(const Batch& batch, const ShardGroup& group) {
  const std::int64_t count = batch.token_T.dim(0) / group.size();
  return {.first = group.rank() * count, .count = count};
}

}  // namespace shoal::nn
