#include "app/commands.hpp"
#include "shoal/base/log.hpp"

namespace shoal::app {

ExitCode prepare_command(const Invocation& call) {
  data::PrepareConfig& config = call.config.prepare;
  const auto& arguments = call.options.arguments;
  config.source.inputs.insert(config.source.inputs.end(), arguments.begin(), arguments.end());
  std::vector<std::string> problems;
  data::validate(config, problems);
  require_no_problems(problems);
  log::info("shoal " SHOAL_VERSION " prepare, ranks: " + std::to_string(call.world.size()));
  (void)data::prepare(config, call.world);  // prints its report
  log::info("next: shoal train INPUT.ini --data.train=" + config.output +
            "/train --data.validation=" + config.output + "/val");
  return ExitCode::finished;
}

}  // namespace shoal::app
