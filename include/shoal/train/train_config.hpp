#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/device/device.hpp"
#include "shoal/nn/model_config.hpp"
#include "shoal/optim/optimizer_config.hpp"
#include "shoal/parallel/parallel_config.hpp"
#include "shoal/tensor/dtype.hpp"

namespace shoal::train {

/// What is read. Section [data]. Changes the numbers.
struct DataConfig {
  std::string train;  ///< dataset folder made by `shoal prepare`; or "a:0.7, b:0.3" for a blend
  std::string validation;  ///< dataset folder; empty: no validation
};

/// How long, in which precision and where. Section [training].
struct TrainingConfig {
  // changes the numbers
  std::int64_t seq_len = 256;           ///< tokens of one sequence
  std::int64_t global_batch_size = 16;  ///< sequences of one optimizer step, over all ranks
  std::int64_t steps = 1000;            ///< optimizer steps of the whole run
  std::string precision = "fp32";       ///< fp32 | bf16 | fp16 (with a dynamic loss scale)
  std::int64_t seed = 1;                ///< of initial weights, data order and dropout
  // changes only speed or memory
  std::int64_t micro_batch_size = 0;  ///< sequences of a rank in one pass; 0: its whole share
  std::string device = "auto";        ///< auto | cpu | cuda
  bool cuda_graph = true;             ///< launch a step as one CUDA graph where no host takes part
  std::int64_t threads = 0;           ///< CPU threads a rank; 0: cores / ranks on the node
  double max_hours = 0.0;             ///< stop with a checkpoint after this time; 0: no limit
  std::string run_dir = "run";        ///< folder of checkpoints, metrics and the configuration
};

/// Section [eval]. Changes nothing but what is reported.
struct EvalConfig {
  std::int64_t interval = 0;     ///< steps between evaluations; 0: at the end only
  std::int64_t max_windows = 0;  ///< windows of seq_len tokens; 0: the whole validation set
};

/// Section [checkpoint]. Changes nothing but what is kept.
struct CheckpointConfig {
  std::int64_t interval = 1000;    ///< steps between checkpoints; 0: at the end only
  std::int64_t keep_last = 2;      ///< older ones are removed; 0: all are kept
  std::int64_t deflate_level = 1;  ///< 0 (none) to 9
  std::string restart = "auto";    ///< auto (the newest good one in run_dir) | none | a checkpoint
  std::string init_from;           ///< weights only from this checkpoint; empty: random start
};

/// Section [metrics]. Changes nothing but what is reported.
struct MetricsConfig {
  std::int64_t router_interval = 1;  ///< steps between rows of the router ledger; 0: none
  double rebuild_seconds = 60.0;     ///< metrics.h5 is rewritten at most this often
  double sync_seconds = 10.0;        ///< the journal is forced to disk at least this often
  double peak_tflops = 0.0;          ///< of one device, for MFU; 0: known devices, else no MFU
};

/// Everything that defines a run.
struct RunConfig {
  nn::ModelConfig model;
  nn::ComputeConfig compute;
  DataConfig data;
  optim::OptimizerConfig optim;
  parallel::ParallelConfig parallel;
  TrainingConfig training;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  MetricsConfig metrics;
  std::string effective_text;  ///< the whole configuration as the user would write it; stored
  std::string command_line;    ///< what continues the run; printed at its end
};

/// Appends every problem found, each naming its key ("training.precision") and what is allowed.
/// Files are not opened.
void validate(const TrainingConfig& config, std::vector<std::string>& problems);
void validate(const EvalConfig& config, std::vector<std::string>& problems);
void validate(const CheckpointConfig& config, std::vector<std::string>& problems);
void validate(const MetricsConfig& config, std::vector<std::string>& problems);
/// All sections, and what holds between them and `ranks`.
void validate(const RunConfig& config, int ranks, std::vector<std::string>& problems);
/// The same for a step without a dataset.
void validate_step(const RunConfig& config, int ranks, std::vector<std::string>& problems);

[[nodiscard]] DType parse_precision(const std::string& precision);
/// auto: the GPU where there is one. InputError for cuda without a GPU.
[[nodiscard]] DeviceKind choose_device(const std::string& device);

/// Sizes that follow from the configuration and the number of data parallel ranks.
struct BatchShape {
  std::int64_t sequences_per_rank = 0;  ///< in one optimizer step
  std::int64_t micro_batch = 0;         ///< sequences of one pass
  std::int64_t micro_batches = 0;       ///< passes of one step
  std::int64_t seq_len = 0;
  [[nodiscard]] std::int64_t micro_tokens() const { return micro_batch * seq_len; }
};
[[nodiscard]] BatchShape batch_shape(const TrainingConfig& config, int dp);

}  // namespace shoal::train
