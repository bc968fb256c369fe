#include <algorithm>

#include "app/commands.hpp"
#include "shoal/base/log.hpp"
#include "shoal/comm/watchdog.hpp"
#include "shoal/train/verify_layout.hpp"

namespace shoal::app {
namespace {

/// Sets keys of [parallel] from "tp=2,pp=2"; appends problems. Returns the data parallel degree
/// that the text asks for, which follows from the ranks and can only be checked; 0: none.
int apply_layout(const std::string& layout, const Invocation& call,
                 std::vector<std::string>& problems) {
  int dp = 0;
  for (std::size_t at = 0; at < layout.size();) {
    const std::size_t end = std::min(layout.find(',', at), layout.size());
    const std::string item = layout.substr(at, end - at);
    at = end + 1;
    const std::size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : item.substr(equals + 1);
    if (name == "dp") {
      if (!parse_value(value, dp) || dp < 1) {
        problems.push_back("verify.layout: \"" + item + "\": dp must be a number, at least 1");
      }
      continue;
    }
    const Key* key = call.keys.find("parallel." + name);
    if (key == nullptr || !key->parse(value)) {
      problems.push_back("verify.layout: \"" + item + "\" is not a key of [parallel] = value");
    }
  }
  return dp;
}

}  // namespace

ExitCode verify_command(const Invocation& call) {
  const VerifyConfig& verify = call.config.verify;
  std::vector<std::string> problems;
  const int dp = apply_layout(verify.layout, call, problems);
  require_no_problems(problems);
  require_valid_run(call, call.world.size());
  const train::RunConfig& config = call.config.run;
  const parallel::Layout ranks = parallel::make_layout(config.parallel, call.world.size());
  require(dp == 0 || dp == ranks.dense.size("dp"),
          "verify.layout: dp = " + std::to_string(dp) + " on " + std::to_string(call.world.size()) +
              " ranks; start it with mpirun -np " +
              std::to_string(dp * config.parallel.tp * config.parallel.pp));
  const comm::Watchdog watchdog{call.world, {.timeout_s = config.parallel.timeout_s}};
  const train::VerifyReport report = train::verify_layout(
      config, call.world,
      {.tolerance = verify.tolerance, .fault = train::fault_from_name(verify.fault)});
  log::info(report.text());
  const bool good = !call.world.is_root() || report.passed();
  const int passed = call.world.all_reduce_value(static_cast<int>(good), comm::ReduceOp::min);
  return passed != 0 ? ExitCode::finished : ExitCode::failure;
}

}  // namespace shoal::app
