#pragma once
#include <string>
#include <vector>

#include "shoal/train/benchmark.hpp"

namespace shoal::train {

/// One op, or a few that belong together, on shapes of a model.
struct KernelFigure {
  std::string kernel;       ///< e.g. "attention_forward"
  io::Json shape;           ///< sizes by the letters of DESIGN: {"T": 16384, "D": 2048, ...}
  double seconds = 0.0;     ///< median of one call
  double flops = 0.0;       ///< of matrix products; 0: a pass over memory
  double bytes = 0.0;       ///< each input read once and each output written once; 0: not counted
  double parameters = 0.0;  ///< updated by an optimizer phase; 0: none
};

struct KernelBenchmark {
  Ceilings ceilings;
  std::vector<KernelFigure> figures;
};

/// Times the kernels of a model on one rank with the shapes of its micro-batch: random values, and
/// for the experts the routing that an untrained router gives. model.vocab_size must be known.
[[nodiscard]] KernelBenchmark benchmark_kernels(const RunConfig& config, const Communicator& world);

[[nodiscard]] io::Json to_json(const KernelBenchmark& result);
[[nodiscard]] std::string benchmark_text(const KernelBenchmark& result);

}  // namespace shoal::train
