#pragma once
#include "shoal/device/exec.hpp"
#include "shoal/tensor/view.hpp"

/// Dimension letters of all ops: T tokens of a micro-batch (sequences laid end to end), D hidden
/// size, V vocabulary, H query heads, G key/value groups, d head_dim, E experts, K experts per
/// token, F intermediate size of an expert or MLP, R = T*K routed rows, S sequences.
/// Activations and weights are f32, bf16 or f16 ("elem"); statistics and weight gradients are f32.
/// Every op: checks its contract, returns on a dry Exec or when there is nothing to do, then runs
/// `cuda::op` or `cpu::op`. Destinations come first in each argument struct.
namespace shoal::ops {

/// How a weight gradient meets its buffer: `overwrite` on first use in a step, then `add`.
enum class Accumulate { overwrite, add };

/// A public op ends, after its contract checks, with these lines (`if constexpr` keeps cuda::
/// symbols out of CPU-only builds):
///   if (exec.is_dry() || nothing_to_do) return;
///   if constexpr (kHasCuda) {
///     if (exec.on_gpu()) return cuda::op(exec, a);
///   }
///   cpu::op(exec, a);

}  // namespace shoal::ops
