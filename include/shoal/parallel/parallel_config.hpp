#pragma once
#include <string>
#include <vector>

#include "shoal/base/rank_grid.hpp"

namespace shoal::parallel {

/// How the ranks share one model. Section [parallel]. Changes only speed and memory. Data
/// parallelism takes the ranks that are left: dp = ranks / (tp pp cp).
struct ParallelConfig {
  int tp = 1;  ///< tensor parallel ranks
  int pp = 1;  ///< pipeline stages
  int cp = 1;  ///< context parallel ranks
  int ep = 1;  ///< expert parallel ranks, taken out of dp x tp
};
/// Appends every problem found. This version runs data parallelism only: other axes must be 1.
void validate(const ParallelConfig& config, std::vector<std::string>& problems);
/// Also checks that `ranks` fit the layout.
void validate(const ParallelConfig& config, int ranks, std::vector<std::string>& problems);

/// The two views of the same ranks (DESIGN section 7).
struct Layout {
  RankGrid dense;   ///< {pp, dp, cp, tp}
  RankGrid expert;  ///< {pp, edp, ep}
};
/// Throws InputError when `ranks` do not fit.
[[nodiscard]] Layout make_layout(const ParallelConfig& config, int ranks);

}  // namespace shoal::parallel
