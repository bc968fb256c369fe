#include "shoal/train/train_config.hpp"

#include <cmath>

#include "shoal/base/error.hpp"
#include "shoal/nn/placement.hpp"
#include "shoal/pipeline/stage_split.hpp"
#include "shoal/train/state.hpp"

namespace shoal::train {
namespace {

using Problems = std::vector<std::string>;

void at_least(Problems& problems, const char* key, std::int64_t value, std::int64_t least) {
  if (value >= least) return;
  problems.push_back(std::string{key} + " = " + std::to_string(value) +
                     ": allowed: " + std::to_string(least) + " or more");
}

void not_negative(Problems& problems, const char* key, double value) {
  if (std::isfinite(value) && value >= 0.0) return;
  problems.push_back(std::string{key} + " = " + std::to_string(value) + ": allowed: 0 or more");
}

void one_of(Problems& problems, const char* key, const std::string& value,
            std::initializer_list<const char*> allowed) {
  std::string list;
  for (const char* word : allowed) {
    if (value == word) return;
    list += (list.empty() ? "" : ", ") + std::string{word};
  }
  problems.push_back(std::string{key} + " = " + value + ": allowed: " + list);
}

/// Reports the text of an InputError as a problem.
template <class Check>
void collect(Problems& problems, const Check& check) {
  try {
    check();
  } catch (const InputError& error) {
    problems.emplace_back(error.what());
  }
}

/// Whether the batch can be dealt to `dp` ranks; appends why not.
bool validate_batch(const TrainingConfig& c, int dp, Problems& problems) {
  if (c.global_batch_size < 1 || c.micro_batch_size < 0) return false;  // already reported
  if (c.global_batch_size % dp != 0) {
    problems.push_back("training.global_batch_size = " + std::to_string(c.global_batch_size) +
                       ": must be a multiple of the " + std::to_string(dp) +
                       " data parallel ranks");
    return false;
  }
  const std::int64_t share = c.global_batch_size / dp;
  const bool divides = c.micro_batch_size == 0 || share % c.micro_batch_size == 0;
  if (!divides) {
    problems.push_back("training.micro_batch_size = " + std::to_string(c.micro_batch_size) +
                       ": must divide the " + std::to_string(share) +
                       " sequences of a rank (global_batch_size / data parallel ranks)");
  }
  return divides;
}

/// What holds between the layout and batch, model and schedule.
void validate_layout(const RunConfig& c, int ranks, Problems& problems) {
  const parallel::ParallelConfig& p = c.parallel;
  const std::size_t before = problems.size();
  parallel::validate(p, ranks, problems);
  if (p.tp < 1 || p.pp < 1 || p.cp < 1 || p.ep < 1 || p.chunks < 1) return;
  nn::SplitDegrees degrees{.tp = p.tp, .pp = p.pp, .ep = p.ep, .chunks = p.chunks};
  const int model_ranks = p.tp * p.pp * p.cp;
  const bool fits = ranks % model_ranks == 0;
  if (fits && validate_batch(c.training, ranks / model_ranks, problems)) {
    const BatchShape batch = batch_shape(c.training, ranks / model_ranks);
    degrees.tokens = batch.micro_tokens();
    if (problems.size() == before) {
      collect(problems, [&] { require_valid(schedule_shape(p, batch.micro_batches)); });
    }
  }
  nn::validate_placement(c.model, degrees, problems);
  if (p.stages.empty() || p.pp * p.chunks > c.model.num_hidden_layers) return;
  collect(problems, [&] {
    (void)pipeline::parse_stages(p.stages, c.model.num_hidden_layers, p.pp * p.chunks);
  });
}

}  // namespace

void validate(const TrainingConfig& c, Problems& problems) {
  at_least(problems, "training.seq_len", c.seq_len, 1);
  at_least(problems, "training.global_batch_size", c.global_batch_size, 1);
  at_least(problems, "training.steps", c.steps, 1);
  at_least(problems, "training.seed", c.seed, 0);
  at_least(problems, "training.micro_batch_size", c.micro_batch_size, 0);
  at_least(problems, "training.threads", c.threads, 0);
  not_negative(problems, "training.max_hours", c.max_hours);
  one_of(problems, "training.precision", c.precision, {"fp32", "bf16", "fp16"});
  one_of(problems, "training.device", c.device, {"auto", "cpu", "cuda"});
  if (c.run_dir.empty()) problems.push_back("training.run_dir is empty: allowed: a folder's path");
}

void validate(const EvalConfig& c, Problems& problems) {
  at_least(problems, "eval.interval", c.interval, 0);
  at_least(problems, "eval.max_windows", c.max_windows, 0);
}

void validate(const CheckpointConfig& c, Problems& problems) {
  at_least(problems, "checkpoint.interval", c.interval, 0);
  at_least(problems, "checkpoint.keep_last", c.keep_last, 0);
  at_least(problems, "checkpoint.deflate_level", c.deflate_level, 0);
  if (c.deflate_level > 9) {
    problems.push_back("checkpoint.deflate_level = " + std::to_string(c.deflate_level) +
                       ": allowed: 0 to 9");
  }
  if (c.restart.empty()) {
    problems.push_back("checkpoint.restart is empty: allowed: auto, none, a checkpoint's path");
  }
}

void validate(const MetricsConfig& c, Problems& problems) {
  at_least(problems, "metrics.router_interval", c.router_interval, 0);
  not_negative(problems, "metrics.rebuild_seconds", c.rebuild_seconds);
  not_negative(problems, "metrics.sync_seconds", c.sync_seconds);
  not_negative(problems, "metrics.peak_tflops", c.peak_tflops);
}

void validate_step(const RunConfig& c, int ranks, Problems& problems) {
  nn::validate(c.model, problems);
  nn::validate(c.compute, problems);
  optim::validate(c.optim, problems);
  validate(c.training, problems);
  validate(c.eval, problems);
  validate(c.checkpoint, problems);
  validate(c.metrics, problems);
  if (c.training.seq_len > c.model.max_position_embeddings) {
    problems.push_back("training.seq_len = " + std::to_string(c.training.seq_len) +
                       ": allowed: up to model.max_position_embeddings = " +
                       std::to_string(c.model.max_position_embeddings));
  }
  validate_layout(c, ranks, problems);
}

void validate(const RunConfig& c, int ranks, Problems& problems) {
  validate_step(c, ranks, problems);
  if (c.data.train.empty()) {
    problems.push_back("data.train is missing: allowed: a dataset folder made by `shoal prepare`");
  }
  if (c.eval.interval > 0 && c.data.validation.empty()) {
    problems.push_back("eval.interval = " + std::to_string(c.eval.interval) +
                       ": needs data.validation");
  }
}

DType parse_precision(const std::string& precision) {
  if (precision == "fp32") return DType::f32;
  if (precision == "bf16") return DType::bf16;
  if (precision == "fp16") return DType::f16;
  throw InputError{"training.precision = " + precision + ": allowed: fp32, bf16, fp16"};
}

DeviceKind choose_device(const std::string& device) {
  if (device == "cpu") return DeviceKind::cpu;
  const bool present = cuda_device_count() > 0;
  require(device != "cuda" || present,
          "training.device = cuda: no GPU here; allowed: auto, cpu" +
              std::string{kHasCuda ? "" : " (this is a CPU-only build)"});
  return present ? DeviceKind::cuda : DeviceKind::cpu;
}

BatchShape batch_shape(const TrainingConfig& config, int dp) {
  const std::int64_t share = config.global_batch_size / dp;
  const std::int64_t micro = config.micro_batch_size > 0 ? config.micro_batch_size : share;
  return {.sequences_per_rank = share,
          .micro_batch = micro,
          .micro_batches = share / micro,
          .seq_len = config.seq_len};
}

}  // namespace shoal::train
