#include "shoal/train/model_json.hpp"

#include <string>
#include <type_traits>

#include "shoal/base/error.hpp"

namespace shoal::train {
namespace {

/// Visits every field with its key: the one list from which both directions derive.
template <class Config, class Visit>
void for_each_field(Config& c, Visit&& visit) {
  visit("vocab_size", c.vocab_size);
  visit("hidden_size", c.hidden_size);
  visit("num_hidden_layers", c.num_hidden_layers);
  visit("num_attention_heads", c.num_attention_heads);
  visit("num_key_value_heads", c.num_key_value_heads);
  visit("head_dim", c.head_dim);
  visit("max_position_embeddings", c.max_position_embeddings);
  visit("tie_word_embeddings", c.tie_word_embeddings);
  visit("intermediate_size", c.intermediate_size);
  visit("first_k_dense_replace", c.first_k_dense_replace);
  visit("num_experts", c.num_experts);
  visit("num_experts_per_tok", c.num_experts_per_tok);
  visit("moe_intermediate_size", c.moe_intermediate_size);
  visit("n_shared_experts", c.n_shared_experts);
  visit("router", c.router);
  visit("norm_topk_prob", c.norm_topk_prob);
  visit("routed_scaling_factor", c.routed_scaling_factor);
  visit("capacity_factor", c.capacity_factor);
  visit("router_aux_loss_coef", c.router_aux_loss_coef);
  visit("aux_loss_scope", c.aux_loss_scope);
  visit("router_z_loss_coef", c.router_z_loss_coef);
  visit("router_bias_update_rate", c.router_bias_update_rate);
  visit("use_qk_norm", c.use_qk_norm);
  visit("rope_theta", c.rope_theta);
  visit("rms_norm_eps", c.rms_norm_eps);
  visit("cross_document", c.cross_document);
  visit("dynamic_heads", c.dynamic_heads.enabled);
  visit("gate_block", c.dynamic_heads.gate_block);
  visit("head_budget", c.dynamic_heads.head_budget);
  visit("head_budget_coef", c.dynamic_heads.head_budget_coef);
  visit("embedding_dropout", c.embedding_dropout);
  visit("attention_dropout", c.attention_dropout);
  visit("expert_dropout", c.expert_dropout);
  visit("initializer_range", c.initializer_range);
  visit("scale_residual_init", c.scale_residual_init);
}

}  // namespace

io::Json to_json(const nn::ModelConfig& config) {
  io::Json json = io::Json::object();
  for_each_field(config, [&json](const char* key, const auto& value) { json[key] = value; });
  return json;
}

nn::ModelConfig model_config_from_json(const io::Json& json, std::string_view what) {
  nn::ModelConfig config;
  std::size_t known = 0;
  for_each_field(config, [&](const char* key, auto& value) {
    value = io::get_field<std::remove_reference_t<decltype(value)>>(json, key, what);
    ++known;
  });
  require(json.size() == known, std::string{what} + ": the model has keys unknown to this version");
  return config;
}

}  // namespace shoal::train
