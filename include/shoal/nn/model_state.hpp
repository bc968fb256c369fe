#pragma once
#include <string>
#include <vector>

#include "shoal/nn/model_layout.hpp"

namespace shoal::nn {

struct NamedView {
  std::string name;
  TensorView view;
};

/// Routing of one MoE layer, summed over the micro-batches of a step.
struct RouterLedger {
  std::int64_t layer = 0;
  TensorView count_E;  ///< f32 [E]: how often each expert was chosen (before any drop)
  TensorView sums;     ///< f32 [4]: see the offsets below
  static constexpr std::int64_t kEntropy = 0;  ///< sum over tokens, nats
  static constexpr std::int64_t kZ = 1;        ///< sum over tokens of logsumexp^2
  static constexpr std::int64_t kAux = 2;      ///< sum over groups of E * sum_e f_e P_e
  static constexpr std::int64_t kDropped = 3;  ///< slots without an expert
};

/// What a stage holds beside its parameters.
struct ModelState {
  TensorView cos_PC, sin_PC;            ///< f32 [max_position_embeddings, d/2], derived
  std::vector<TensorView> router_bias;  ///< f32 [E] of each layer of the stage; absent where none
  /// f32: every sum of a step in one block, so that one reduction over the data-parallel ranks and
  /// one copy to the host move them all. loss_sum and the ledger are views into it.
  TensorView totals;
  TensorView loss_sum;               ///< f32 [1]: cross entropy summed over unmasked targets, nats
  std::vector<RouterLedger> ledger;  ///< one entry for each MoE layer of the stage

  /// State that a checkpoint must hold: "layers.N.mlp.gate.e_score_correction_bias".
  [[nodiscard]] std::vector<NamedView> checkpointed() const;
  std::int64_t first_layer = 0;
};

/// Takes persistent memory and fills it: rope tables, biases zero, totals zero. Waits.
[[nodiscard]] ModelState make_model_state(const Exec& exec, const ModelConfig& config,
                                          const StageRange& range);

}  // namespace shoal::nn
