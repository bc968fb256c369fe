#pragma once
#include "shoal/nn/batch.hpp"
#include "shoal/nn/parameter_watch.hpp"
#include "shoal/nn/routing_tap.hpp"

namespace shoal::nn {

/// What a module keeps from forward to backward. none recomputed: everything that backward reads.
/// selective: cheap tensors are recomputed (norm outputs, rotated queries and keys, SwiGLU outputs,
/// gathered rows). full: only the module's input is kept.
enum class Recompute { none, selective, full };

/// What a run over the layers is for.
enum class Purpose {
  train,      ///< dropout on, routing enters the ledger
  recompute,  ///< the same values again: dropout on, nothing is counted twice
  evaluate    ///< no dropout, nothing counted
};

/// What one pass over a micro-batch carries to every module.
struct Pass {
  const Batch& batch;
  const StepScalars& scalars;
  Purpose purpose = Purpose::train;
  RoutingTap* tap = nullptr;
  /// Told of weights in forward and of gradients in backward or backward_weight; null in every pass
  /// but the first forward and the last backward of a chunk in a step.
  ParameterWatch* watch = nullptr;
  [[nodiscard]] bool dropout() const { return purpose != Purpose::evaluate; }
};

/// Random stream of a dropout site: 0 is the embedding's, each layer has two.
[[nodiscard]] constexpr std::uint32_t dropout_stream(std::int64_t layer, std::uint32_t site) {
  return 1 + 2 * static_cast<std::uint32_t>(layer) + site;
}
inline constexpr std::uint32_t kEmbeddingDropout = 0;

/// `view`, or scratch of that shape where the caller keeps nothing.
[[nodiscard]] inline TensorView or_scratch(const Exec& exec, const TensorView& view, Shape shape,
                                           DType dtype) {
  return view.absent() ? scratch(exec, shape, dtype) : view;
}

}  // namespace shoal::nn
