#include "shoal/train/plan_text.hpp"

#include <algorithm>
#include <cmath>

#include "train/text.hpp"

namespace shoal::train {
namespace {

std::string key_value(const char* key, std::int64_t value) {
  return std::string{key} + "=" + std::to_string(value);
}

std::string traffic_text(double bytes) {
  return bytes_text(static_cast<std::int64_t>(bytes));
}

std::string percent(double share) {
  return fixed(100.0 * share, 1) + " %";
}

std::string seconds_text(double seconds) {
  return seconds < 1.0 ? fixed(1e3 * seconds, 2) + " ms" : fixed(seconds, 3) + " s";
}

/// "4 GPUs", "2 nodes of 8 GPUs".
std::string hardware_text(int gpus, int gpus_per_node) {
  if (gpus > gpus_per_node) {
    return std::to_string((gpus + gpus_per_node - 1) / gpus_per_node) + " nodes of " +
           std::to_string(gpus_per_node) + " GPUs";
  }
  return std::to_string(gpus) + (gpus == 1 ? " GPU" : " GPUs");
}

std::int64_t total_steps(const RunConfig& config) {
  return config.training.steps;
}

}  // namespace

std::string layout_text(const Candidate& c) {
  const RunConfig& config = c.config;
  const parallel::ParallelConfig& p = config.parallel;
  const std::int64_t micro = config.training.micro_batch_size;
  std::string text = key_value("tp", p.tp) + " " + key_value("pp", p.pp) + " " +
                     key_value("ep", p.ep) + " " + key_value("dp", c.dp());
  if (p.pp > 1) {
    text += ", " + p.schedule;
    if (p.chunks > 1) text += " x " + std::to_string(p.chunks);
  }
  text +=
      ", micro-batch " + std::to_string(micro) + " x " +
      std::to_string(config.training.global_batch_size / c.dp() / std::max<std::int64_t>(1, micro));
  text += ", recompute " + config.compute.recompute_attention + "/" + config.compute.recompute_mlp;
  if (p.ep > 1 && p.ep_buffer_factor > 0.0) {
    text += ", expert buffers x " + fixed(p.ep_buffer_factor, 1);
  }
  return text;
}

std::string step_text(const StepCost& cost, const Calibration& calibration) {
  std::string text = "predicted\n";
  text += "  step                      " + seconds_text(cost.seconds) + ", " +
          si_text(cost.tokens_per_s) + " tokens/s\n";
  text += "  bubble                    " + percent(cost.bubble_share) + "\n";
  text += "  sent a step, busiest rank tp " + traffic_text(cost.sent.tp) + ", ep " +
          traffic_text(cost.sent.ep) + ", pp " + traffic_text(cost.sent.pp) + ", dp " +
          traffic_text(cost.sent.dp) + "\n";
  return text + "  speeds                    " + calibration.source;
}

std::string candidates_text(const std::vector<Candidate>& best) {
  std::string text;
  for (std::size_t i = 0; i < best.size(); ++i) {
    const Candidate& c = best[i];
    const AxisTraffic& sent = c.cost.sent;
    text += "  " + std::to_string(i + 1) + ". " + layout_text(c) + "\n";
    text += "     " + si_text(c.cost.tokens_per_s) + " tokens/s, step " +
            seconds_text(c.cost.seconds) + ", bubble " + percent(c.cost.bubble_share) +
            ", reduction not hidden " + seconds_text(c.cost.reduce_s) + ", optimizer " +
            seconds_text(c.cost.optimizer_s) + "\n";
    text += "     sent a step by the busiest rank: tp " + traffic_text(sent.tp) + ", ep " +
            traffic_text(sent.ep) + ", pp " + traffic_text(sent.pp) + ", dp " +
            traffic_text(sent.dp) + "\n";
    text += "     memory of the fullest rank: " + bytes_text(c.memory.bytes) +
            (c.memory.counted ? "" : " (estimate)") + "\n";
  }
  return text;
}

std::string advice_text(const std::vector<HardwarePoint>& points, int gpus_per_node) {
  constexpr double kEfficient = 0.8;
  std::string text = "  GPUs  tokens/s   a GPU      efficiency  whole run  layout\n";
  int smallest = 0, efficient = 0;
  for (const HardwarePoint& point : points) {
    std::string line = "  " + std::to_string(point.gpus);
    line.resize(8, ' ');
    if (point.best.empty()) {
      text += line + "no layout fits\n";
      continue;
    }
    const Candidate& c = point.best.front();
    if (smallest == 0) smallest = point.gpus;
    if (point.efficiency >= kEfficient) efficient = point.gpus;
    const auto column = [&line](const std::string& value, std::size_t width) {
      const std::size_t end = line.size() + width;
      line += value;
      line.resize(std::max(line.size() + 1, end), ' ');
    };
    column(si_text(c.cost.tokens_per_s), 11);
    column(si_text(c.cost.tokens_per_s / point.gpus), 11);
    column(percent(point.efficiency), 12);
    column(duration_text(c.cost.seconds * static_cast<double>(total_steps(c.config))), 11);
    text += line + layout_text(c) + "\n";
  }
  if (smallest == 0) return text + "advice: no layout fits; more GPUs or more memory are needed\n";
  text += "advice: fits on " + hardware_text(smallest, gpus_per_node) + "; uses up to " +
          hardware_text(efficient, gpus_per_node) + " well (each GPU at least " +
          percent(kEfficient) + " as fast as on the smallest)\n";
  return text;
}

std::vector<std::string> layout_keys(const Candidate& candidate) {
  const parallel::ParallelConfig& p = candidate.config.parallel;
  const RunConfig& c = candidate.config;
  std::vector<std::string> keys = {
      "--" + key_value("parallel.tp", p.tp), "--" + key_value("parallel.pp", p.pp),
      "--" + key_value("parallel.ep", p.ep), "--parallel.schedule=" + p.schedule,
      "--" + key_value("parallel.chunks", p.chunks)};
  if (p.ep > 1 && p.ep_buffer_factor > 0.0) {
    keys.push_back("--parallel.ep_buffer_factor=" + fixed(p.ep_buffer_factor, 2));
  }
  keys.push_back("--" + key_value("training.micro_batch_size", c.training.micro_batch_size));
  keys.push_back("--compute.recompute_attention=" + c.compute.recompute_attention);
  keys.push_back("--compute.recompute_mlp=" + c.compute.recompute_mlp);
  return keys;
}

std::string sbatch_text(const Candidate& candidate, const SbatchOptions& options) {
  const int per_node = std::min(candidate.ranks, options.gpus_per_node);
  const int nodes = (candidate.ranks + per_node - 1) / per_node;
  std::string text =
      "#!/bin/bash\n#SBATCH --job-name=shoal\n"
      "#SBATCH --nodes=" +
      std::to_string(nodes) + "\n#SBATCH --ntasks=" + std::to_string(candidate.ranks) +
      "\n#SBATCH --ntasks-per-node=" + std::to_string(per_node) +
      "\n#SBATCH --gpus-per-task=1\n#SBATCH --cpus-per-task=8\n#SBATCH --time=24:00:00\n"
      "#SBATCH --output=%x-%j.log\n#SBATCH --open-mode=append\n#SBATCH --requeue\n"
      "# TERM reaches the ranks 300 s before the limit (no \"B:\", which would tell this script "
      "alone).\n#SBATCH --signal=TERM@300\n";
  text += "# Written by `shoal plan`: " + layout_text(candidate) +
          ".\n# Predicted: " + si_text(candidate.cost.tokens_per_s) + " tokens/s, " +
          bytes_text(candidate.memory.bytes) + " on the fullest GPU.\n";
  text += "set -euo pipefail\ncd \"${SLURM_SUBMIT_DIR:-.}\"\nexport INPUT=${INPUT:-" +
          options.input + "}\nexec bash jobs/train.slurm";
  for (const std::string& key : layout_keys(candidate)) text += " \\\n  " + key;
  return text + " \"$@\"\n";
}

}  // namespace shoal::train
