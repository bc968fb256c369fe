#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace shoal::nn {

/// How the next token is drawn from its logits.
struct SamplingConfig {
  double temperature = 1.0;  ///< 0: the most likely token
  std::int64_t top_k = 0;    ///< keep the k most likely tokens; 0: all
  double top_p = 1.0;        ///< keep the smallest set of tokens with this probability, in (0, 1]
  std::uint64_t seed = 0;
};
void validate(const SamplingConfig& config, std::vector<std::string>& problems);

/// A pure function: the same logits, config and `index` (position of the new token) give the same
/// token. Ties go to the lower id. Top-k is applied before top-p. Logits must not be NaN: Error.
[[nodiscard]] std::int32_t sample(std::span<const float> logits, const SamplingConfig& config,
                                  std::uint64_t index);

}  // namespace shoal::nn
