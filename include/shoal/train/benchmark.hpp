#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/io/json.hpp"
#include "shoal/train/plan.hpp"

namespace shoal::train {

/// What a device reaches at all: figures of a benchmark are shares of these.
struct Ceilings {
  std::string device, precision;
  std::int64_t product = 0;  ///< n of the matrix product n x n x n, in `precision`
  double flops_per_s = 0.0;  ///< of it
  std::int64_t copied = 0;   ///< bytes of the copy
  double bytes_per_s = 0.0;  ///< of it, read and written
};
/// A product of random matrices and a copy, in memory that is free again afterwards.
[[nodiscard]] Ceilings measure_ceilings(DeviceKind device, const std::string& precision);

/// The training step of a model on random tokens, with the routing that its router gives.
struct StepBenchmark {
  Ceilings ceilings;
  std::string layout;
  int ranks = 1;
  BatchShape batch;
  nn::ModelSize size;
  std::int64_t tokens = 0;  ///< of a step, all ranks
  double flops = 0.0;  ///< of a step, all ranks: active parameters, causal attention, no recompute
  bool cuda_graph = false;      ///< steps were launched as one graph
  std::vector<double> seconds;  ///< of each timed step
  std::vector<double> losses;   ///< of each step, warm-up included
  double imbalance = 0.0;  ///< last step: largest over layers of max / mean tokens of an expert
  ArenaPlan memory;        ///< of this rank
  std::int64_t device_bytes = 0;  ///< this step's by the device's own figure; 0 on the CPU
  std::int64_t device_used = 0;   ///< all that is in use on the device, by its own figure

  [[nodiscard]] double median_s() const;
  [[nodiscard]] double flops_per_s() const { return flops / ranks / median_s(); }  ///< of a device
};

struct StepBenchmarkOptions {
  int warmup = 3;  ///< steps before the timed ones: libraries choose, the graph is recorded
  int steps = 10;
};
/// model.vocab_size must be known. Collective over `world`; the first rank's figures count.
[[nodiscard]] StepBenchmark benchmark_step(const RunConfig& config,
                                           const StepBenchmarkOptions& options,
                                           const Communicator& world);

[[nodiscard]] io::Json to_json(const Ceilings& ceilings);
[[nodiscard]] io::Json to_json(const StepBenchmark& result);
[[nodiscard]] std::string benchmark_text(const Ceilings& ceilings);
[[nodiscard]] std::string benchmark_text(const StepBenchmark& result);

}  // namespace shoal::train
