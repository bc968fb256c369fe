#include <set>

#include "app/commands.hpp"
#include "shoal/base/log.hpp"
#include "shoal/train/run.hpp"

namespace shoal::app {
namespace {

/// The configuration in effect, as an input file that gives the same run.
std::string effective_ini(const Invocation& call) {
  std::set<std::string> sections = find_command("train")->rules.sections;
  sections.erase("plan");
  return call.keys.to_ini(sections);
}

/// What the user types to go on: the same input file and the keys of the command line.
std::string continue_command(const Invocation& call) {
  const int ranks = call.world.size();
  std::string text = ranks > 1 ? "mpirun -np " + std::to_string(ranks) + " " : "";
  text += "shoal train";
  if (!call.options.input_file.empty()) text += " " + call.options.input_file;
  for (const std::string& name : call.options.given_on_command_line) {
    if (name == "checkpoint.restart" || name == "checkpoint.init_from") continue;
    text += " --" + name + "='" + call.keys.find(name)->show() + "'";
  }
  return text;
}

}  // namespace

void require_valid_run(const Invocation& call, int ranks) {
  std::vector<std::string> problems;
  train::validate(call.config.run, ranks, problems);
  if (call.config.plan.ranks < 0) problems.emplace_back("plan.ranks: allowed: 0 or more");
  require_no_problems(problems);
}

ExitCode train_command(const Invocation& call) {
  if (call.config.plan.dry_run) return plan_command(call);
  require_valid_run(call, call.world.size());
  train::RunConfig& config = call.config.run;
  config.effective_text = effective_ini(call);
  config.command_line = continue_command(call);
  log::info(build_information());
  log::info(config.effective_text);
  return train::run(config, call.world);
}

}  // namespace shoal::app
