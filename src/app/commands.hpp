#pragma once
#include <filesystem>
#include <string>

#include "shoal/app/commands.hpp"

/// The subcommands, one file each, and what they share.
namespace shoal::app {

ExitCode prepare_command(const Invocation& call);
ExitCode train_command(const Invocation& call);
ExitCode plan_command(const Invocation& call);
ExitCode bench_command(const Invocation& call);
ExitCode verify_command(const Invocation& call);
ExitCode eval_command(const Invocation& call);
ExitCode generate_command(const Invocation& call);
ExitCode inspect_command(const Invocation& call);
ExitCode export_command(const Invocation& call);
ExitCode import_command(const Invocation& call);

/// The one plain argument of a command; InputError that says what it should be.
[[nodiscard]] std::string only_argument(const Invocation& call, std::string_view what);

/// Validates the sections of a run against `ranks`; throws all problems together.
void require_valid_run(const Invocation& call, int ranks);

/// Sets model.vocab_size where it is 0: that of the dataset, or a usual one where the dataset is on
/// another machine, with a note that says so.
[[nodiscard]] std::string know_vocabulary(train::RunConfig& config);

}  // namespace shoal::app
