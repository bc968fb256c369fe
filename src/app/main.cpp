// The program, from the top. Every subcommand is one function in its own file; commands.cpp lists
// them.
#include <chrono>
#include <exception>
#include <iostream>
#include <optional>
#include <thread>

#include "shoal/app/commands.hpp"
#include "shoal/base/log.hpp"
#include "shoal/comm/environment.hpp"

namespace {

using namespace shoal;

int exit_status(ExitCode code) {
  return static_cast<int>(code);
}

/// Only rank 0 speaks for a run that works.
void silence_other_ranks(const Communicator& world) {
  if (!world.is_root()) log::set_sink([](log::Level, std::string_view) {});
}

/// A wrong input usually shows on every rank alike: rank 0 reports it, and another rank only when
/// rank 0 has not ended the job by then.
int report_input_error(const InputError& error, const Communicator& world) {
  if (world.size() == 1) {
    std::cerr << "shoal: " << error.what() << std::endl;
    return exit_status(ExitCode::bad_input);
  }
  if (!world.is_root()) {
    std::this_thread::sleep_for(std::chrono::seconds{2});
    std::cerr << "rank " << world.rank() << " on " << comm::Environment::host_name() << ": ";
  }
  std::cerr << "shoal: " << error.what() << std::endl;
  comm::Environment::abort(exit_status(ExitCode::bad_input));
}

int report_failure(const std::exception& error, const Communicator& world) {
  std::cerr << "shoal: rank " << world.rank() << " on " << comm::Environment::host_name() << ": "
            << error.what() << std::endl;
  // Other ranks may be waiting in a collective for this one.
  if (world.size() > 1) comm::Environment::abort(exit_status(ExitCode::failure));
  return exit_status(ExitCode::failure);
}

int run_command(const app::Command& command, const std::vector<std::string>& arguments,
                const Communicator& world) {
  try {
    // 3. Read the options; all problems are reported together, before any rank talks to another.
    app::Config config;
    const app::KeyTable keys = app::make_key_table(config);
    std::vector<std::string> problems;
    const auto options = app::parse_options(arguments, command.rules, keys, problems);
    app::require_no_problems(problems);
    // 4. Work.
    return exit_status(command.run({world, config, keys, options}));
  } catch (const InputError& error) {
    return report_input_error(error, world);
  } catch (const std::exception& error) {
    return report_failure(error, world);
  }
}

}  // namespace

int main(int argc, char** argv) {
  // 1. Which command?
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (app::print_information(words)) return exit_status(ExitCode::finished);
  const app::Command* command = app::find_command(words.front());
  if (command == nullptr) {
    std::cerr << "shoal: unknown command \"" << words.front() << "\"; `shoal help` lists all\n";
    return exit_status(ExitCode::bad_input);
  }
  // 2. Join the other ranks.
  std::optional<comm::Environment> environment;
  if (command->parallel) environment.emplace(argc, argv);
  const Communicator world = command->parallel ? Communicator::world() : Communicator::self();
  silence_other_ranks(world);
  return run_command(*command, {words.begin() + 1, words.end()}, world);
}
