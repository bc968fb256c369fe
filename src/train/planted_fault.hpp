#pragma once
#include "shoal/train/verify_layout.hpp"
#include "train/probe_run.hpp"

namespace shoal::train {

/// The configuration of a run with this fault.
[[nodiscard]] RunConfig with_fault(const RunConfig& config, Fault fault);
/// Plants the faults that lie in weights or gradients, after start() and before a step. InputError
/// when the layout has no place for it.
void plant(Fault fault, ProbeRun& run);

}  // namespace shoal::train
