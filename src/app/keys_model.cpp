#include "app/keys.hpp"

namespace shoal::app {
namespace {

void add_size_keys(KeyTable& table, nn::ModelConfig& c) {
  table.add("vocab_size", c.vocab_size, "token ids; 0: those of the dataset");
  table.add("hidden_size", c.hidden_size, "width of the model");
  table.add("num_hidden_layers", c.num_hidden_layers, "decoder layers");
  table.add("num_attention_heads", c.num_attention_heads, "query heads");
  table.add("num_key_value_heads", c.num_key_value_heads,
            "key and value heads (groups); divides num_attention_heads");
  table.add("head_dim", c.head_dim, "width of one head, even");
  table.add("max_position_embeddings", c.max_position_embeddings, "longest sequence, tokens");
  table.add("tie_word_embeddings", c.tie_word_embeddings,
            "the output head is the embedding's own weight");
  table.add("intermediate_size", c.intermediate_size, "width of a dense layer's MLP");
  table.add("first_k_dense_replace", c.first_k_dense_replace,
            "leading layers that are dense instead of experts");
}

void add_expert_keys(KeyTable& table, nn::ModelConfig& c) {
  table.add("num_experts", c.num_experts, "routed experts a layer; 1: a dense model");
  table.add("num_experts_per_tok", c.num_experts_per_tok, "experts that each token visits");
  table.add("moe_intermediate_size", c.moe_intermediate_size, "width of one expert");
  table.add("n_shared_experts", c.n_shared_experts,
            "one expert that every token visits, this many times moe_intermediate_size wide");
  table.add("router", c.router, "scores: softmax (as Qwen3-MoE) | sigmoid (as GLM-4-MoE)");
  table.add("norm_topk_prob", c.norm_topk_prob, "weights of the chosen experts sum to one");
  table.add("routed_scaling_factor", c.routed_scaling_factor, "multiplies the experts' weights");
  table.add("capacity_factor", c.capacity_factor,
            "tokens an expert takes, as a multiple of the even share; 0: all (dropless)");
  table.add("router_aux_loss_coef", c.router_aux_loss_coef, "weight of the balance loss; 0: none");
  table.add("aux_loss_scope", c.aux_loss_scope,
            "balance is asked of each: sequence | micro_batch (depends on the batch split)");
  table.add("router_z_loss_coef", c.router_z_loss_coef, "weight of the router's z-loss; 0: none");
  table.add("router_bias_update_rate", c.router_bias_update_rate,
            "step of the balance bias (no auxiliary loss needed); 0: no bias");
}

void add_attention_keys(KeyTable& table, nn::ModelConfig& c) {
  table.add("use_qk_norm", c.use_qk_norm, "RMSNorm of each query and key head");
  table.add("rope_theta", c.rope_theta, "base of the rotary frequencies");
  table.add("rms_norm_eps", c.rms_norm_eps, "epsilon of all norms");
  table.add("cross_document", c.cross_document, "attention crosses the ends of documents");
  auto& d = c.dynamic_heads;
  table.add("dynamic_heads", d.enabled, "a learned gate switches groups of heads off");
  table.add("gate_block", d.gate_block, "tokens that share a gate: 64 | 128");
  table.add("head_budget", d.head_budget, "mean gate to aim for, 0 to 1");
  table.add("head_budget_coef", d.head_budget_coef, "weight of the budget term; 0: no pull");
}

void add_start_keys(KeyTable& table, nn::ModelConfig& c) {
  table.add("embedding_dropout", c.embedding_dropout, "dropout of the embedding, 0 to 1");
  table.add("attention_dropout", c.attention_dropout, "dropout of the attention's output");
  table.add("expert_dropout", c.expert_dropout, "dropout of the experts' (or MLP's) output");
  table.add("initializer_range", c.initializer_range, "standard deviation of initial weights");
  table.add("scale_residual_init", c.scale_residual_init,
            "output projections start smaller by sqrt(2 num_hidden_layers)");
}

}  // namespace

void add_model_keys(KeyTable& table, nn::ModelConfig& config) {
  table.section("model", "What the model computes. Names are those of the Hugging Face configs.");
  add_size_keys(table, config);
  add_expert_keys(table, config);
  add_attention_keys(table, config);
  add_start_keys(table, config);
}

}  // namespace shoal::app
