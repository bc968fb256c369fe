#pragma once
#include <cstdint>
#include <string>

#include "shoal/app/key_table.hpp"
#include "shoal/data/prepare.hpp"
#include "shoal/nn/sampling.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::app {

/// How `shoal plan` and `shoal train --dry-run` look at a run. Section [plan].
struct PlanConfig {
  bool dry_run = false;  ///< train: check everything, print the plan, stop
  std::int64_t ranks = 0;
  std::int64_t gpus = 0;  ///< above 0: search the best layout for so many
  std::int64_t gpus_per_node = 8;
  std::string calibration;       ///< file of `shoal bench --calibrate`; empty: published figures
  double memory_gb = 80.0;       ///< of one GPU, 10^9 bytes
  std::string write_sbatch;      ///< job script for the best layout
  std::string schedule_picture;  ///< timeline of the pipeline: .png or .txt
};

/// `shoal bench`. Section [bench].
struct BenchConfig {
  bool calibrate = false;
  bool kernels = false;
  std::int64_t steps = 10;  ///< timed
  std::int64_t warmup = 4;  ///< steps before them
  std::string output;       ///< JSON file; empty: calibration.json of `calibrate`, else none
  std::string device = "auto";
  std::string precision = "auto";  ///< auto: bf16 on a GPU, fp32 on the CPU
};

/// Section [verify], the keys of `shoal verify-layout`.
struct VerifyConfig {
  std::string layout;
  double tolerance = 0.0;
  std::string fault = "none";
};

/// Section [evaluate], the keys of `shoal eval`.
struct EvaluateConfig {
  std::string dataset;
  std::int64_t seq_len = 0;
  std::int64_t batch_size = 8;
  std::int64_t max_windows = 0;
  std::string precision = "fp32";
  std::string device = "auto";
};

/// Section [generate].
struct GenerateConfig {
  std::string prompt;
  std::int64_t max_tokens = 200;
  nn::SamplingConfig sampling;
  bool print_logits = false;
  std::string tokenizer;
  std::string precision = "fp32";
  std::string device = "auto";
};

/// Sections [export] and [import].
struct ExchangeConfig {
  std::string format = "safetensors";
  std::string output;
  std::string dtype = "f32";
  std::int64_t shard_mb = 4096;
  std::string tokenizer;
};

/// Every config struct that an input file can fill.
struct Config {
  data::PrepareConfig prepare;
  train::RunConfig run;
  PlanConfig plan;
  BenchConfig bench;
  VerifyConfig verify;
  EvaluateConfig evaluate;
  GenerateConfig generate;
  ExchangeConfig export_, import_;
};

/// Binds every field to its key. `config` must outlive the table and not move.
[[nodiscard]] KeyTable make_key_table(Config& config);

}  // namespace shoal::app
