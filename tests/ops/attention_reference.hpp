#pragma once
#include <cstdint>
#include <vector>

#include "shoal/tensor/dtype.hpp"

namespace shoal::test {

/// One attention problem with everything a test varies.
struct AttentionCase {
  std::int64_t T = 0, H = 1, G = 1, d = 16;
  DType dtype = DType::f32;
  std::vector<std::int32_t> doc_starts;     ///< first tokens of documents; 0 is always one
  std::vector<std::int32_t> active_groups;  ///< of each token; empty: all are active

  [[nodiscard]] std::vector<std::int32_t> doc_start_of_token() const {
    std::vector<std::int32_t> start(static_cast<std::size_t>(T), 0);
    for (const std::int32_t first : doc_starts) {
      for (auto t = static_cast<std::size_t>(first); t < start.size(); ++t) start[t] = first;
    }
    return start;
  }
  [[nodiscard]] bool active(std::int64_t t, std::int64_t group) const {
    return active_groups.empty() || group < active_groups[static_cast<std::size_t>(t)];
  }
};

/// Heads as plain arrays [T, heads, d].
struct AttentionValues {
  std::vector<float> q, k, v, dout;
};
struct AttentionResult {
  std::vector<float> out, lse, dq, dk, dv;  ///< lse [H, T], 0 for inactive pairs
};

/// Plain loops in double precision, straight from the definition.
[[nodiscard]] AttentionResult attention_reference(const AttentionCase& x, const AttentionValues& in,
                                                  double scale);

}  // namespace shoal::test
