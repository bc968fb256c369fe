#pragma once
#include "shoal/base/error.hpp"
#include "shoal/comm/communicator.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// The whole job: start or resume, train, evaluate, checkpoint, stop. Collective over `world`; the
/// configuration must have passed validate(). Rank 0 prints. Throws InputError for bad files before
/// the first step, Error for anything that the run cannot survive.
[[nodiscard]] ExitCode run(const RunConfig& config, const Communicator& world);

}  // namespace shoal::train
