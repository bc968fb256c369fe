#include <cmath>

#include "app/commands.hpp"
#include "shoal/base/clock.hpp"
#include "shoal/base/log.hpp"
#include "shoal/train/calibrate.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::app {

ExitCode bench_command(const Invocation& call) {
  const BenchConfig& bench = call.config.bench;
  require(bench.calibrate, "nothing to do; allowed: shoal bench --calibrate");
  const DeviceKind device = train::choose_device(bench.device);
  std::string precision = bench.precision;
  if (precision == "auto") precision = device == DeviceKind::cuda ? "bf16" : "fp32";
  (void)train::parse_precision(precision);  // says what is allowed
  const Stopwatch clock;
  const train::Calibration c =
      train::calibrate({.device = device, .precision = precision}, call.world);
  if (call.world.is_root()) {
    io::write_json_file(bench.output, train::to_json(c));
    log::info(io::canonical_dump(train::to_json(c)) + "written to " + bench.output + " after " +
              std::to_string(std::llround(clock.seconds())) + " s");
  }
  return ExitCode::finished;
}

}  // namespace shoal::app
