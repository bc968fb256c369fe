#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "shoal/app/config.hpp"
#include "shoal/app/options.hpp"
#include "shoal/base/error.hpp"
#include "shoal/comm/communicator.hpp"

namespace shoal::app {

/// What a subcommand works with.
struct Invocation {
  const Communicator& world;  ///< all ranks, or a group of one for commands that are not parallel
  Config& config;             ///< filled from file and command line
  const KeyTable& keys;       ///< bound to `config`
  const ParsedOptions& options;
};

struct Command {
  std::string_view name;
  std::string_view usage;    ///< arguments, after "shoal NAME "
  std::string_view summary;  ///< one line
  OptionRules rules;
  bool parallel = false;  ///< runs on all ranks of the job
  ExitCode (*run)(const Invocation&) = nullptr;
};

[[nodiscard]] const std::vector<Command>& commands();
[[nodiscard]] const Command* find_command(std::string_view name);  ///< nullptr when unknown

/// Handles `shoal`, `shoal help [COMMAND | --keys]`, `shoal --help` and `shoal --version`; false
/// when the arguments name a subcommand.
[[nodiscard]] bool print_information(const std::vector<std::string>& arguments);

/// "shoal 0.1.0", compiler, options and libraries of this build, one line each.
[[nodiscard]] std::string build_information();

}  // namespace shoal::app
