#pragma once
#include <string>
#include <vector>

#include "shoal/train/layout_search.hpp"

namespace shoal::train {

/// "tp=2 pp=4 ep=8 dp=16", schedule, micro-batch and recompute.
[[nodiscard]] std::string layout_text(const Candidate& candidate);
/// The best layouts as a table, one line each, with what they cost and send.
[[nodiscard]] std::string candidates_text(const std::vector<Candidate>& best);
/// Predicted time and traffic of one layout, and on which speeds that rests.
[[nodiscard]] std::string step_text(const StepCost& cost, const Calibration& calibration);
/// How many GPUs the model needs and how many it uses well, from the sweep.
[[nodiscard]] std::string advice_text(const std::vector<HardwarePoint>& points, int gpus_per_node);

/// Keys of the command line that turn the input file into the candidate.
[[nodiscard]] std::vector<std::string> layout_keys(const Candidate& candidate);

/// A job script for the candidate: resources, then jobs/train.slurm with the layout's keys.
struct SbatchOptions {
  std::string input;  ///< input file, as seen from the folder of submission
  int gpus_per_node = 8;
};
[[nodiscard]] std::string sbatch_text(const Candidate& candidate, const SbatchOptions& options);

}  // namespace shoal::train
