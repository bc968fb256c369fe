#pragma once
#include <functional>
#include <vector>

#include "shoal/train/cost_model.hpp"

namespace shoal::train {

/// Bytes that the fullest rank needs, and whether the step itself counted them.
struct MemoryFigure {
  std::int64_t bytes = 0;
  bool counted = false;  ///< false: an estimate
};
using MemoryProbe = std::function<MemoryFigure(const RunConfig& config, int ranks)>;
/// From a dry run of the step on a rank of each stage.
[[nodiscard]] MemoryFigure predict_memory(const RunConfig& config, int ranks);

struct SearchOptions {
  int gpus = 1;
  int keep = 5;                   ///< best layouts to return, at most one for each (tp, pp, ep)
  std::int64_t memory_bytes = 0;  ///< that a rank may use
  MemoryProbe memory = predict_memory;
};

/// A layout with its prediction. `config` differs from the searched one in [parallel], the
/// recompute modes and the micro-batch size: in nothing that changes the numbers.
struct Candidate {
  RunConfig config;
  int ranks = 1;
  StepCost cost;
  MemoryFigure memory;
  [[nodiscard]] int dp() const { return ranks / (config.parallel.tp * config.parallel.pp); }
};

/// Every split of `gpus` that the model's sizes allow: tp divides the groups, the vocabulary and
/// the widths and stays inside a node; pp has a layer for each chunk; dp divides the batch; ep
/// divides the experts and dp x tp. Schedules are not part of it.
[[nodiscard]] std::vector<parallel::ParallelConfig> legal_layouts(const RunConfig& config, int gpus,
                                                                  int gpus_per_node);

/// The fastest layouts that fit, best first; empty when none does.
[[nodiscard]] std::vector<Candidate> search_layouts(const RunConfig& config, const CostModel& model,
                                                    const SearchOptions& options);

/// The best layout of each number of GPUs 1, 2, 4, ... up to options.gpus; none where nothing fits.
struct HardwarePoint {
  int gpus = 1;
  std::vector<Candidate> best;  ///< one or none
  double efficiency = 0.0;      ///< tokens/s of a GPU against the smallest number that fits
};
[[nodiscard]] std::vector<HardwarePoint> sweep_gpus(const RunConfig& config, const CostModel& model,
                                                    const SearchOptions& options);

}  // namespace shoal::train
