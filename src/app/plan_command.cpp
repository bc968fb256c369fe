#include <filesystem>

#include "app/commands.hpp"
#include "shoal/app/schedule_picture.hpp"
#include "shoal/base/log.hpp"
#include "shoal/io/atomic_file.hpp"
#include "shoal/train/plan.hpp"
#include "shoal/train/plan_text.hpp"

namespace shoal::app {
namespace {

constexpr std::int64_t kAssumedVocabulary = 32768;

void require_valid_search(const Invocation& call) {
  const PlanConfig& plan = call.config.plan;
  std::vector<std::string> problems;
  nn::validate(call.config.run.model, problems);
  nn::validate(call.config.run.compute, problems);
  optim::validate(call.config.run.optim, problems);
  train::validate(call.config.run.training, problems);
  if (plan.gpus_per_node < 1) problems.emplace_back("plan.gpus_per_node: allowed: 1 or more");
  if (!(plan.memory_gb > 0.0)) problems.emplace_back("plan.memory_gb: allowed: more than 0");
  constexpr std::int64_t kMostGpus = 1 << 17;
  if (plan.gpus > kMostGpus) problems.emplace_back("plan.gpus: allowed: up to 131072");
  require_no_problems(problems);
}

train::Calibration calibration_of(const PlanConfig& plan, const std::string& precision) {
  return plan.calibration.empty() ? train::published_calibration(plan.memory_gb, precision)
                                  : train::read_calibration(plan.calibration);
}

void draw(const std::string& path, const pipeline::Timeline& timeline) {
  write_schedule_picture(path, timeline);
  log::info("timeline written to " + path);
}

ExitCode search(const Invocation& call) {
  require_valid_search(call);
  const PlanConfig& plan = call.config.plan;
  train::RunConfig config = call.config.run;
  const auto per_node = static_cast<int>(plan.gpus_per_node);
  std::string text = "plan for " + std::to_string(plan.gpus) + " GPUs of " +
                     std::to_string(static_cast<std::int64_t>(plan.memory_gb)) + " GB, " +
                     std::to_string(per_node) + " a node\n" + know_vocabulary(config);
  const train::CostModel model{calibration_of(plan, config.training.precision), per_node};
  text += "  speeds: " + model.calibration().source + "\n";
  if (model.calibration().precision != config.training.precision) {
    text += "  note: the speeds are those of " + model.calibration().precision + "\n";
  }
  constexpr double kUsable = 0.92;  // the rest: driver, libraries, NCCL
  const train::SearchOptions options{
      .gpus = static_cast<int>(plan.gpus),
      .memory_bytes = static_cast<std::int64_t>(kUsable * 1e9 * plan.memory_gb)};
  const auto best = train::search_layouts(config, model, options);
  text += best.empty() ? "  no layout fits\n" : train::candidates_text(best);
  log::info(text + train::advice_text(train::sweep_gpus(config, model, options), per_node));
  require(!best.empty(), "no layout of " + std::to_string(plan.gpus) +
                             " GPUs fits: use more GPUs or plan.memory_gb, or check that "
                             "training.global_batch_size is divisible by the data parallel ranks");
  if (!plan.write_sbatch.empty()) {
    io::write_file_atomically(
        plan.write_sbatch,
        train::sbatch_text(best.front(),
                           {.input = call.options.input_file.empty() ? "inputs/train/moe_100m.ini"
                                                                     : call.options.input_file,
                            .gpus_per_node = per_node}));
    log::info("job script written to " + plan.write_sbatch);
  }
  if (!plan.schedule_picture.empty()) {
    draw(plan.schedule_picture, model.timeline(best.front().config, best.front().ranks));
  }
  return ExitCode::finished;
}

}  // namespace

std::string know_vocabulary(train::RunConfig& config) {
  if (config.model.vocab_size > 0) return "";
  if (config.data.train.empty() || !std::filesystem::exists(config.data.train)) {
    config.model.vocab_size = kAssumedVocabulary;
    return "  vocabulary of " + std::to_string(kAssumedVocabulary) +
           " assumed: the dataset is not here; --model.vocab_size=N tells another\n";
  }
  train::resolve_vocab(config);
  return "";
}

ExitCode plan_command(const Invocation& call) {
  const PlanConfig& plan = call.config.plan;
  if (plan.gpus > 0) return search(call);
  const int ranks = plan.ranks > 0 ? static_cast<int>(plan.ranks) : call.world.size();
  train::RunConfig& config = call.config.run;
  std::vector<std::string> problems;
  train::validate_step(config, ranks, problems);
  require_no_problems(problems);
  const std::string note = know_vocabulary(config);
  train::require_vocab_split(config);
  const train::CostModel model{calibration_of(plan, config.training.precision),
                               static_cast<int>(plan.gpus_per_node)};
  const train::PlanReport report = train::plan(config, ranks);
  log::info(note + report.text() +
            train::step_text(model.step(config, ranks), model.calibration()));
  if (!plan.schedule_picture.empty()) {
    draw(plan.schedule_picture, model.timeline(config, ranks));
  }
  return ExitCode::finished;
}

}  // namespace shoal::app
