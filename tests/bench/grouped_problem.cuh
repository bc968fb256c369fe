#pragma once
// Uneven shares of the experts of a layer.
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "bench/measure.cuh"
#include "ops/grouped_gemm.cuh"

namespace shoal::bench {

/// Offsets of experts that get shares exp(spread * normal) of `rows`; some shares may be none.
[[nodiscard]] inline std::vector<std::int32_t> random_offsets(std::int64_t rows, int experts,
                                                              double spread, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<double> normal;
  std::vector<double> share(static_cast<std::size_t>(experts));
  for (double& s : share) s = std::exp(spread * normal(random));
  const double total = std::accumulate(share.begin(), share.end(), 0.0);
  std::vector<std::int32_t> offsets{0};
  double sum = 0.0;
  for (const double s : share) {
    sum += s;
    offsets.push_back(static_cast<std::int32_t>(static_cast<double>(rows) * sum / total));
  }
  offsets.back() = static_cast<std::int32_t>(rows);
  return offsets;
}

}  // namespace shoal::bench
