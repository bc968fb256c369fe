#include <cmath>

#include "app/commands.hpp"
#include "shoal/base/clock.hpp"
#include "shoal/base/log.hpp"
#include "shoal/train/calibrate.hpp"
#include "shoal/train/kernel_benchmark.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::app {
namespace {

ExitCode calibrate(const Invocation& call) {
  const BenchConfig& bench = call.config.bench;
  const DeviceKind device = train::choose_device(bench.device);
  std::string precision = bench.precision;
  if (precision == "auto") precision = device == DeviceKind::cuda ? "bf16" : "fp32";
  (void)train::parse_precision(precision);  // says what is allowed
  const Stopwatch clock;
  const train::Calibration c =
      train::calibrate({.device = device, .precision = precision}, call.world);
  if (call.world.is_root()) {
    const std::string output = bench.output.empty() ? "calibration.json" : bench.output;
    io::write_json_file(output, train::to_json(c));
    log::info(io::canonical_dump(train::to_json(c)) + "written to " + output + " after " +
              std::to_string(std::llround(clock.seconds())) + " s");
  }
  return ExitCode::finished;
}

void require_valid_bench(const Invocation& call) {
  const BenchConfig& bench = call.config.bench;
  std::vector<std::string> problems;
  train::validate_step(call.config.run, call.world.size(), problems);
  const auto at_least_one = [&](const char* key, std::int64_t value) {
    constexpr std::int64_t kMost = 1'000'000;
    if (value >= 1 && value <= kMost) return;
    problems.push_back(std::string{key} + " = " + std::to_string(value) +
                       ": allowed: 1 to 1000000");
  };
  at_least_one("bench.steps", bench.steps);
  at_least_one("bench.warmup", bench.warmup);
  if (bench.kernels && call.world.size() > 1) {
    problems.emplace_back("bench.kernels = true: allowed: on one rank");
  }
  require_no_problems(problems);
}

template <class Result>
void report(const Invocation& call, const std::string& note, const Result& result) {
  if (!call.world.is_root()) return;
  log::info(note + train::benchmark_text(result));
  const std::string& output = call.config.bench.output;
  if (!output.empty()) io::write_json_file(output, train::to_json(result));
}

ExitCode time_model(const Invocation& call) {
  const BenchConfig& bench = call.config.bench;
  train::RunConfig& config = call.config.run;
  if (bench.device != "auto") config.training.device = bench.device;
  if (bench.precision != "auto") config.training.precision = bench.precision;
  require_valid_bench(call);
  const std::string note = know_vocabulary(config);
  train::require_vocab_split(config);
  if (bench.kernels) {
    report(call, note, train::benchmark_kernels(config, call.world));
  } else {
    report(call, note,
           train::benchmark_step(
               config,
               {.warmup = static_cast<int>(bench.warmup), .steps = static_cast<int>(bench.steps)},
               call.world));
  }
  return ExitCode::finished;
}

}  // namespace

ExitCode bench_command(const Invocation& call) {
  return call.config.bench.calibrate ? calibrate(call) : time_model(call);
}

}  // namespace shoal::app
