#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/comm/communicator.hpp"
#include "shoal/train/train_config.hpp"

namespace shoal::train {

/// A fault planted into the layout's run, to see it found.
enum class Fault {
  none,
  skip_reduction,   ///< one parameter's gradient holds the first rank's part only
  double_gradient,  ///< one parameter's gradient counts twice on one rank
  swap_experts,     ///< two experts of a layer change places
  aux_scale         ///< the balance gradient counts twice
};
/// none | skip_reduction | double_gradient | swap_experts | aux_scale; InputError otherwise.
[[nodiscard]] Fault fault_from_name(const std::string& name);

struct VerifyOptions {
  /// Largest allowed norm-relative deviation of a gradient; 0: by precision. fp32: 1e-5, which is
  /// what sums of some thousand products lose when their order changes. bf16 and fp16: twice what
  /// one rank loses against itself in fp32; for gradients of fewer than 64 elements twice the most
  /// that one of their kind loses in any layer.
  double tolerance = 0.0;
  Fault fault = Fault::none;
};

struct ParameterDeviation {
  std::string name;
  double norm = 0.0;       ///< of the one-rank gradient
  double deviation = 0.0;  ///< |layout - reference| / |reference|, Euclidean
  double allowed = 0.0;
  bool same_start = true;  ///< initial weights bit for bit
  [[nodiscard]] bool passed() const { return same_start && deviation <= allowed; }
};

/// Where a token's experts differ from those of one rank.
struct RoutingDifference {
  std::int64_t layer = 0;
  std::int64_t token = 0;  ///< of the global batch
  double margin = 0.0;     ///< between the last chosen and the first other score, on one rank
};

/// What verify_layout found; filled on rank 0.
struct VerifyReport {
  std::string layout;
  bool same_samples = false;
  std::int64_t choices = 0;  ///< routed tokens times MoE layers
  std::vector<RoutingDifference> routing;
  bool replayed = false;        ///< gradients were compared with the routing of one rank replayed
  double loss[2] = {0.0, 0.0};  ///< one rank, layout
  double grad_norm[2] = {0.0, 0.0};  ///< one rank, layout
  double allowed_loss = 0.0;         ///< relative, of loss and gradient norm
  std::vector<ParameterDeviation> parameters;

  /// A choice may differ where one rank had less than this between two experts: 1e-5 in fp32.
  double near_tie = 1e-5;
  [[nodiscard]] bool routing_agrees() const;
  [[nodiscard]] bool passed() const;
  [[nodiscard]] std::string text() const;
};

/// Proves a layout against one rank on one step of the run that `config` describes: initial
/// weights, samples, routing, loss, gradient norm, and the gradient of every parameter. Rank 0 runs
/// the one-rank step beside its part of the layout, so the model must be small. Collective over
/// `world`.
[[nodiscard]] VerifyReport verify_layout(const RunConfig& config, const Communicator& world,
                                         const VerifyOptions& options);

}  // namespace shoal::train
