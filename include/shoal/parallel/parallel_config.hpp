#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/base/rank_grid.hpp"

namespace shoal::parallel {

/// How the ranks share one model. Section [parallel]. Changes only speed and memory. Data
/// parallelism takes the ranks that are left: dp = ranks / (tp pp cp).
struct ParallelConfig {
  int tp = 1;                     ///< tensor parallel ranks
  int pp = 1;                     ///< pipeline stages
  int cp = 1;                     ///< context parallel ranks; must be 1 in this version
  int ep = 1;                     ///< expert parallel ranks, taken out of dp x tp
  std::string schedule = "1f1b";  ///< gpipe | 1f1b | interleaved | zb-h1 | zbv
  int chunks = 1;                 ///< model chunks a rank (interleaved: >= 2; zbv: 2)
  std::string stages;             ///< layers of each chunk in model order, "3,2,3"; empty: balanced
  bool zero = true;               ///< shard optimizer states over the replicas of each parameter
  std::string grad_reduce = "fp32";  ///< fp32 | bf16: dtype of gradients on the wire
  bool overlap = true;               ///< reduce gradients while the backward pass goes on
  bool overlap_nccl = false;         ///< the same through NCCL, on a stream beside the passes
  std::int64_t bucket_elements = std::int64_t{1} << 22;  ///< gradients of one collective
  std::string comm = "auto";                             ///< auto | nccl | mpi
  double ep_buffer_factor = 0.0;  ///< rows an expert rank can take / its even share; 0: worst case
  double timeout_s = 3600.0;      ///< a rank that waits longer in one collective is taken for lost
};
/// Appends every problem found, each naming its key and the allowed values.
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
