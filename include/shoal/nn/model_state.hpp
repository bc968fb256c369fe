#pragma once
#include <span>
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

/// What a rank holds beside its parameters, shared by all its model chunks.
struct ModelState {
  TensorView cos_PC, sin_PC;  ///< f32 [max_position_embeddings, d/2], derived
  /// f32 [MoE layers of the model, E]: balance biases of the layers that live here, zeros for the
  /// others, so that a sum over the pipeline ranks is the bias of every layer; absent where the
  /// model has none.
  TensorView bias_block;
  /// f32 [E] of each layer of the model: rows of bias_block; absent where the layer has none here.
  std::vector<TensorView> router_bias;
  /// f32: every sum of a step in one block, laid out alike on every rank of every stage. Each rank
  /// adds what its tokens and layers contribute, so one sum over the whole world and one copy to
  /// the host give them all. loss_sum and the ledger are views into it.
  TensorView totals;
  TensorView loss_sum;               ///< f32 [1]: cross entropy summed over unmasked targets, nats
  std::vector<RouterLedger> ledger;  ///< one entry for each MoE layer of the model

  /// State of this rank's layers that a checkpoint must hold:
  /// "layers.N.mlp.gate.e_score_correction_bias".
  [[nodiscard]] std::vector<NamedView> checkpointed() const;
};

/// State of a rank that holds these layers. Takes persistent memory and fills it: rope tables,
/// biases zero, totals zero. Waits.
[[nodiscard]] ModelState make_model_state(const Exec& exec, const ModelConfig& config,
                                          std::span<const StageRange> ranges);
/// State of the whole model.
[[nodiscard]] ModelState make_model_state(const Exec& exec, const ModelConfig& config);

}  // namespace shoal::nn
