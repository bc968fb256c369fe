#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "shoal/tensor/dtype.hpp"

namespace shoal::nn {

/// Dynamic attention (DESIGN section 4). Changes the numbers.
struct DynamicHeadsConfig {
  bool enabled = false;
  std::int64_t gate_block = 64;   ///< tokens that share a gate: 64 or 128
  double head_budget = 0.5;       ///< aim for the mean gate
  double head_budget_coef = 0.0;  ///< weight of the budget term; 0: no pull
};

/// What the model computes. Names are those of the Hugging Face configs. Section [model].
struct ModelConfig {
  // size
  std::int64_t vocab_size = 0;     ///< 0: that of the dataset
  std::int64_t hidden_size = 256;  ///< D
  std::int64_t num_hidden_layers = 4;
  std::int64_t num_attention_heads = 4;  ///< H
  std::int64_t num_key_value_heads = 2;  ///< G, divides H
  std::int64_t head_dim = 64;            ///< d, even
  std::int64_t max_position_embeddings = 2048;
  bool tie_word_embeddings = false;
  // dense MLP of layers [0, first_k_dense_replace), and of all layers when num_experts is 1
  std::int64_t intermediate_size = 1024;
  std::int64_t first_k_dense_replace = 0;
  // experts
  std::int64_t num_experts = 8;              ///< E, routed experts a layer; 1: a dense model
  std::int64_t num_experts_per_tok = 2;      ///< K
  std::int64_t moe_intermediate_size = 256;  ///< F of one expert
  std::int64_t n_shared_experts = 0;         ///< one shared MLP of this many times F
  std::string router = "softmax";            ///< softmax (Qwen3-MoE) | sigmoid (GLM-4-MoE)
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  double capacity_factor = 0.0;  ///< 0: dropless
  // balance
  double router_aux_loss_coef = 0.01;
  std::string aux_loss_scope = "sequence";  ///< sequence | micro_batch
  double router_z_loss_coef = 0.0;
  double router_bias_update_rate = 0.0;  ///< 0: no balance bias
  // attention
  bool use_qk_norm = true;
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-6;
  bool cross_document = false;  ///< attention crosses document ends
  DynamicHeadsConfig dynamic_heads;
  // regularisation and start
  double embedding_dropout = 0.0;
  double attention_dropout = 0.0;  ///< of the attention block's output
  double expert_dropout = 0.0;     ///< of the MLP's or experts' output
  double initializer_range = 0.02;
  bool scale_residual_init = true;  ///< output projections start with std / sqrt(2 layers)

  /// The balance bias is state of the model: sigmoid routers have one, others when it is updated.
  [[nodiscard]] bool has_router_bias() const {
    return router == "sigmoid" || router_bias_update_rate > 0.0;
  }
  [[nodiscard]] bool is_moe_layer(std::int64_t layer) const {
    return num_experts > 1 && layer >= first_k_dense_replace;
  }
};

/// How the model computes: changes only speed and memory. Section [compute].
struct ComputeConfig {
  std::string recompute_attention = "none";  ///< none | selective | full
  std::string recompute_mlp = "none";        ///< none | selective | full, MLP or experts
  std::int64_t loss_chunk = 1024;            ///< tokens whose logits are in memory at once
};

/// Appends every problem found, each naming its key and the allowed values.
void validate(const ModelConfig& config, std::vector<std::string>& problems);
void validate(const ComputeConfig& config, std::vector<std::string>& problems);

struct ModelSize {
  std::int64_t total = 0;              ///< parameters
  std::int64_t active = 0;             ///< touched by one token, embedding lookup not counted
  double forward_flops_per_token = 0;  ///< matrix products, causal attention at `sequence` / 2 keys
};
[[nodiscard]] ModelSize model_size(const ModelConfig& config, std::int64_t sequence);

}  // namespace shoal::nn
