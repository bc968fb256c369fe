#pragma once
#include <span>
#include <vector>

#include "shoal/nn/model_config.hpp"
#include "shoal/nn/parameter_watch.hpp"
#include "shoal/nn/placement.hpp"

namespace shoal::nn {

/// A pipeline stage: layers [first_layer, last_layer), with the embedding and the head or not.
struct StageRange {
  std::int64_t first_layer = 0;
  std::int64_t last_layer = 0;
  bool embedding = true;
  bool head = true;  ///< final norm, output projection and loss
};
/// The whole model as one stage.
[[nodiscard]] StageRange whole_model(const ModelConfig& config);

inline constexpr ParameterLayout::Handle kNoTensor = -1;

/// Fused tensors of one layer; kNoTensor where the layer has none. Sizes are those of a placement
/// of one rank: H, G and F are divided over tp, E over ep.
struct LayerHandles {
  ParameterLayout::Handle input_norm = kNoTensor;
  ParameterLayout::Handle qkv = kNoTensor;  ///< [(H + 2G) d, D]: q_proj, k_proj, v_proj
  ParameterLayout::Handle q_norm = kNoTensor, k_norm = kNoTensor;
  ParameterLayout::Handle o_proj = kNoTensor;           ///< [D, H d]
  ParameterLayout::Handle gate_weight = kNoTensor;      ///< f32 [D], dynamic heads
  ParameterLayout::Handle gate_scalars = kNoTensor;     ///< f32 [2]: length weight, bias
  ParameterLayout::Handle post_norm = kNoTensor;        ///< post_attention_layernorm
  ParameterLayout::Handle mlp_gate_up = kNoTensor;      ///< [2F, D] of the dense or shared MLP
  ParameterLayout::Handle mlp_down = kNoTensor;         ///< [D, F]
  ParameterLayout::Handle router = kNoTensor;           ///< f32 [E, D]
  ParameterLayout::Handle experts_gate_up = kNoTensor;  ///< [E, 2F, D]
  ParameterLayout::Handle experts_down = kNoTensor;     ///< [E, D, F]
};

/// The tensors of a layer, which lie side by side.
[[nodiscard]] TensorRange tensors_of(const LayerHandles& layer);

/// A model chunk: where its modules find their tensors in the parameters of the rank.
struct StageLayout {
  StageRange range;
  std::vector<LayerHandles> layers;               ///< of layers [first_layer, last_layer)
  ParameterLayout::Handle embedding = kNoTensor;  ///< also on a stage that has only a tied head
  ParameterLayout::Handle final_norm = kNoTensor;
  ParameterLayout::Handle lm_head = kNoTensor;  ///< the embedding when tied
  /// A tied head of this rank, in this chunk or another, writes the gradient of the table before
  /// the embedding does.
  bool head_writes_table = false;
};

/// Parameters of a rank and its chunks, in the order of the ranges. Logical names:
///   embed_tokens [V, D], norm [D], lm_head [V, D] (untied), and for each layer N, layers.N.:
///   input_layernorm, self_attn.{q_proj, k_proj, v_proj, o_proj, q_norm, k_norm},
///   self_attn.head_gate.{weight [D], length [1], bias [1]}, post_attention_layernorm,
///   dense: mlp.{gate_proj, up_proj, down_proj};
///   MoE: mlp.gate [E, D], mlp.experts.{gate_proj [E, F, D], up_proj [E, F, D], down_proj [E, D,
///   F]}, mlp.shared_experts.{gate_proj, up_proj, down_proj}.
/// A tied table exists once on a rank; where other ranks hold it too its replicas include kPp.
struct RankLayout {
  ParameterLayout parameters;
  std::vector<StageLayout> stages;
};
/// The placement must have passed validate_placement.
[[nodiscard]] RankLayout make_layout(const ModelConfig& config, std::span<const StageRange> ranges,
                                     const Placement& placement);
/// One chunk, whole tensors.
[[nodiscard]] RankLayout make_layout(const ModelConfig& config, const StageRange& range);

}  // namespace shoal::nn
