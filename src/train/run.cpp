#include "shoal/train/run.hpp"

#include <omp.h>

#include <cstdlib>

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

/// Threads of this rank: as asked for, else by OMP_NUM_THREADS, else its share of the cores.
std::int64_t set_threads(std::int64_t wanted, const HostPlace& place) {
  if (wanted == 0 && std::getenv("OMP_NUM_THREADS") == nullptr) wanted = place.threads;
  if (wanted > 0) omp_set_num_threads(static_cast<int>(wanted));
  return omp_get_max_threads();
}

void check_device_memory(DeviceKind device, const ArenaPlan& memory) {
  if (device == DeviceKind::cpu) return;
  const DeviceInfo info = device_info(device);
  require(memory.total() <= info.free_bytes,
          "the step needs " + bytes_text(memory.total()) + " on each GPU, " + info.name + " has " +
              bytes_text(info.free_bytes) +
              " free: lower training.micro_batch_size, or set compute.recompute_mlp = full");
}

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
  const HostPlace place = find_place(world);
  const std::int64_t threads = set_threads(config.training.threads, place);
  const parallel::ProcessGroups groups{world, config.parallel};
  if (choose_device(config.training.device) == DeviceKind::cuda) {
    select_cuda_device(place.index % cuda_device_count());
  }
  const comm::CollectivesFactory factory{world, choose_device(config.training.device),
                                         collectives_options(config.parallel)};
  watchdog.set_before_abort(factory.abort_hook());
  TrainerParts parts = make_parts(config, {.groups = &groups, .factory = &factory});
  const PlanReport report = plan(parts.config, world.size(), world.rank());
  parts.memory = report.memory;
  parts.flops_per_token = report.flops_per_token;
  check_device_memory(parts.device, parts.memory);
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
