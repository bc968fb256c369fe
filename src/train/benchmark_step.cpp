#include <algorithm>

#include "shoal/base/clock.hpp"
#include "shoal/comm/watchdog.hpp"
#include "shoal/train/benchmark.hpp"
#include "shoal/train/step.hpp"
#include "train/host_place.hpp"
#include "train/random_batches.hpp"
#include "train/report.hpp"

namespace shoal::train {
namespace {

/// A training step alone on a dry Exec: no evaluation shares its scratch.
ArenaPlan step_memory(const RunConfig& config, const BatchShape& shape, DeviceKind device,
                      const Communicator& world) {
  const auto paper = parallel::ProcessGroups::on_paper(config.parallel, world.size(), world.rank());
  const Exec exec = Exec::dry(device);
  const comm::CollectivesFactory factory{paper.world(), device};
  const TrainState state{exec, config, {.groups = &paper, .factory = &factory}};
  TrainStep{exec, config, shape, state}.measure(exec);
  return exec.arena().plan();
}

/// Steps on random tokens, one given to the device while the one before runs, as in training.
class StepRunner {
 public:
  StepRunner(const RunConfig& config, const BatchShape& shape, const RankLinks& links,
             const ArenaPlan& memory)
      : config_{config},
        groups_{*links.groups},
        exec_{choose_device(config.training.device), memory},
        state_{exec_, config, links},
        step_{exec_, config, shape, state_},
        reader_{config, shape, state_.model_state()},
        batches_{config, shape, {.index = groups_.dp_rank(), .count = groups_.dp_size()}} {
    state_.initialise(exec_, static_cast<std::uint64_t>(config.training.seed));
    targets_ = config.training.global_batch_size * config.training.seq_len;
    exec_.synchronize();
  }

  /// One step more than is timed, so that each of these ends while another one runs.
  void run(const StepBenchmarkOptions& options, StepBenchmark& result) {
    const int last = options.warmup + options.steps;
    for (int i = 0; i <= last; ++i) {
      enqueue(i);
      if (step_.pending() == BatchBlock::kSlots) finish(result);
    }
    finish(result);
    result.cuda_graph = step_.captured();
    for (int i = options.warmup; i < last; ++i) {
      const auto end = ends_.begin() + i;
      result.seconds.push_back(*end - *(end - 1));
    }
  }

 private:
  void enqueue(std::int64_t step) {
    const double lr = optim::learning_rate(config_.optim, step, config_.training.steps);
    step_.enqueue(exec_,
                  {.batch = &batches_.next(),
                   .targets = targets_,
                   .scalars = {.lr = static_cast<float>(lr),
                               .mu = static_cast<float>(optim::momentum(config_.optim, step)),
                               .seed = step}});
  }
  void finish(StepBenchmark& result) {
    const StepResult done = step_.next_result();
    ends_.push_back(clock_.seconds());
    const ResultReader::Numbers numbers = reader_.numbers(done, targets_);
    result.losses.push_back(numbers.loss);
    result.imbalance = numbers.imbalance;
  }

  const RunConfig& config_;
  const parallel::ProcessGroups& groups_;
  Exec exec_;
  TrainState state_;
  TrainStep step_;
  ResultReader reader_;
  RandomBatches batches_;
  std::int64_t targets_ = 0;
  Stopwatch clock_;
  std::vector<double> ends_;
};

StepBenchmark describe(const RunConfig& config, const parallel::ProcessGroups& groups) {
  StepBenchmark result;
  result.layout = groups.layout().dense.describe();
  result.ranks = groups.world().size();
  result.batch = batch_shape(config.training, groups.dp_size());
  result.size = nn::model_size(config.model, config.training.seq_len);
  result.tokens = config.training.global_batch_size * config.training.seq_len;
  constexpr double kForwardAndBackward = 3.0;
  result.flops = kForwardAndBackward * result.size.forward_flops_per_token *
                 static_cast<double>(result.tokens);
  return result;
}

}  // namespace

double StepBenchmark::median_s() const {
  expect(!seconds.empty(), "no step was timed");
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

StepBenchmark benchmark_step(const RunConfig& config, const StepBenchmarkOptions& options,
                             const Communicator& world) {
  expect(options.warmup >= 1 && options.steps >= 1, "a step to start from and one to time");
  const comm::Watchdog watchdog{world, {.timeout_s = config.parallel.timeout_s}};
  take_place(config.training, world);
  const DeviceKind device = choose_device(config.training.device);
  const parallel::ProcessGroups groups{world, config.parallel};
  const comm::CollectivesFactory factory{world, device, collectives_options(config.parallel)};
  StepBenchmark result = describe(config, groups);
  result.ceilings = measure_ceilings(device, config.training.precision);
  result.memory = step_memory(config, result.batch, device, world);
  require_device_memory(device, result.memory);
  const std::int64_t free_before = device_info(device).free_bytes;
  StepRunner runner{config, result.batch, {.groups = &groups, .factory = &factory}, result.memory};
  runner.run(options, result);
  if (device == DeviceKind::cuda) {
    const DeviceInfo after = device_info(device);
    result.device_bytes = free_before - after.free_bytes;
    result.device_used = after.total_bytes - after.free_bytes;
  }
  return result;
}

}  // namespace shoal::train
