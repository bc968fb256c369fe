#include "shoal/train/run.hpp"

#include "shoal/base/log.hpp"
#include "shoal/comm/watchdog.hpp"
#include "train/agree.hpp"
#include "train/checkpoint_save.hpp"
#include "train/host_place.hpp"
#include "train/sources.hpp"
#include "train/text.hpp"
#include "train/trainer.hpp"

namespace shoal::train {
namespace {

void print_end(const RunConfig& config, const Accounting& accounting, ExitCode code) {
  log::info(accounting_text(accounting));
  if (code == ExitCode::can_continue && !config.command_line.empty()) {
    log::info("continue with: " + config.command_line);
  }
}

/// The configuration with everything that the data decide.
RunConfig complete(RunConfig config) {
  resolve_vocab(config);
  require_vocab_split(config);
  return config;
}

TrainerParts make_parts(const RunConfig& config, const RankLinks& links) {
  TrainerParts parts{.config = config,
                     .links = links,
                     .shape = batch_shape(config.training, links.groups->dp_size()),
                     .device = choose_device(config.training.device)};
  parts.sources = open_sources(parts.config);
  parts.validation =
      open_validation(parts.config, parts.sources.front().dataset->info().tokenizer_hash);
  return parts;
}

}  // namespace

ExitCode run(const RunConfig& wanted, const Communicator& world) {
  const Stopwatch clock;
  const StopCondition stop{{.max_hours = wanted.training.max_hours}};
  const RunConfig config = complete(wanted);
  comm::Watchdog watchdog{world, {.timeout_s = config.parallel.timeout_s}};
  const std::int64_t threads = take_place(config.training, world);
  const parallel::ProcessGroups groups{world, config.parallel};
  const comm::CollectivesFactory factory{world, choose_device(config.training.device),
                                         collectives_options(config.parallel)};
  watchdog.set_before_abort(factory.abort_hook());
  TrainerParts parts = make_parts(config, {.groups = &groups, .factory = &factory});
  const PlanReport report = plan(parts.config, world.size(), world.rank());
  parts.memory = report.memory;
  parts.flops_per_token = report.flops_per_token;
  require_device_memory(parts.device, parts.memory);
  Trainer trainer{parts};
  const std::string start = trainer.start();
  if (world.is_root()) {
    check_disk(config.training.run_dir, report.checkpoint_bytes);
    log::info(header_text({.devices = device_info(parts.device).name,
                           .ranks = world.size(),
                           .threads = threads,
                           .transport = factory.describe(),
                           .plan = &report,
                           .start = start},
                          parts.config));
  }
  trainer.add_time(Phase::start, clock.seconds());
  const ExitCode code = trainer.run(stop);
  Accounting accounting = trainer.accounting();
  accounting.total_s = clock.seconds();
  if (world.is_root()) print_end(config, accounting, code);
  return code;
}

}  // namespace shoal::train
